"""Input that cannot be used ends a command with 3: what was found, and what to do; the workspace stays as it was."""

from __future__ import annotations

import json
import tarfile
import zipfile

import pytest

CLASS = [{"id": 1, "name": "car"}]


def coco(path, *, images=(), boxes=(), categories=CLASS):
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
        for number, (image, category) in enumerate(boxes, start=1)
    ]
    rows = [{"id": number, "file_name": name, "width": 96, "height": 96} for number, name in enumerate(images, start=1)]
    path.write_text(json.dumps({"images": rows, "annotations": annotations, "categories": categories}))
    return path


def zip_without_an_image(folder):
    with zipfile.ZipFile(folder / "notes.zip", "w") as archive:
        archive.writestr("readme.txt", "no picture here")
    return ["ingest", folder / "notes.zip"], "notes.zip"


def tar_cut_off(folder):
    with tarfile.open(folder / "whole.tar.gz", "w:gz") as archive:
        archive.add(folder / "imagery" / "a.png", "a.png")
    (folder / "cut.tar.gz").write_bytes((folder / "whole.tar.gz").read_bytes()[:-200])
    return ["ingest", folder / "cut.tar.gz"], "cut.tar.gz"


def geotiff_cut_off(folder):
    from PIL import Image

    Image.open(folder / "imagery" / "a.png").save(folder / "whole.tif")
    content = (folder / "whole.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    return ["ingest", folder / "cut.tif"], "cut.tif"


def source_that_is_not_there(folder):
    return ["ingest", folder / "nothing.zip"], "nothing.zip"


def labels_of_an_image_that_is_not_there(folder):
    return ["labels", "import", coco(folder / "x.json", images=["a.png", "elsewhere.png"], boxes=[(1, 1)])], "elsewhere.png"


def labels_of_a_class_that_is_not_there(folder):
    tanks = [{"id": 1, "name": "tank"}]
    return ["labels", "import", coco(folder / "x.json", images=["a.png"], boxes=[(1, 1)], categories=tanks)], "tank"


def labels_of_no_known_kind(folder):
    (folder / "labels.doc").write_text("car, car")
    return ["labels", "import", folder / "labels.doc"], "labels.doc"


def labels_that_are_not_there(folder):
    return ["labels", "import", folder / "nothing.json"], "nothing.json"


def budget_of_nothing(folder):
    return ["rank", "--budget-minutes", "0"], "0"


def budget_below_nothing(folder):
    return ["rank", "--budget-seconds=-5"], "-5"


def export_that_is_not_there(folder):
    return ["detect", "nothing", folder / "imagery" / "a.png"], "nothing"


def model_that_is_not_there(folder):
    return ["predict", "--model", "nothing"], "nothing"


def configuration_that_is_not_json(folder):
    (folder / "config.json").write_text("seed: 3")
    return ["rank", "--config", folder / "config.json"], "config.json"


@pytest.fixture
def folder(tilehawk, write_picture, tmp_path, monkeypatch):
    """A workspace of one picture with the class car, named by the environment, in a folder of inputs."""
    write_picture(tmp_path / "imagery" / "a.png", width=96, height=96)
    monkeypatch.setenv("TILEHAWK_WORKSPACE", str(tmp_path / "workspace"))
    assert tilehawk("init").code == 0
    assert tilehawk("ingest", tmp_path / "imagery", "--set", "tile=32", "--set", "overlap=0").code == 0
    assert tilehawk("labels", "import", coco(tmp_path / "first.json", images=["a.png"], boxes=[(1, 1)]), "--withhold").code == 0
    return tmp_path


@pytest.mark.parametrize(
    "make",
    [
        zip_without_an_image,
        tar_cut_off,
        geotiff_cut_off,
        source_that_is_not_there,
        labels_of_an_image_that_is_not_there,
        labels_of_a_class_that_is_not_there,
        labels_of_no_known_kind,
        labels_that_are_not_there,
        budget_of_nothing,
        budget_below_nothing,
        export_that_is_not_there,
        model_that_is_not_there,
        configuration_that_is_not_json,
    ],
    ids=lambda make: make.__name__,
)
def test_command_ends_with_3_names_the_input_and_changes_nothing(make, tilehawk, folder):
    arguments, named = make(folder)
    before = tilehawk("status", "--json").document
    typed = tilehawk(*arguments, "--json")
    assert typed.code == 3, typed.out
    assert named in typed.document["found"]
    assert typed.document["expected"] or typed.document["remedy"]
    assert tilehawk("status", "--json").document == before


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["ingest", "x", "--set", "tyle=64"], "'tile'"),
        (["rank", "--set", "strategie=random"], "'strategy'"),
        (["rank", "--stratgy", "random"], "'--strategy'"),
        (["labels", "imprt", "x"], "'import'"),
        (["finetun"], "'finetune'"),
    ],
)
def test_wrong_name_ends_with_2_and_names_the_nearest(arguments, nearest, tilehawk, folder):
    typed = tilehawk(*arguments, "--json")
    assert typed.code == 2
    assert nearest in typed.document["remedy"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["rank", "--strategy", "best"],
        ["rank", "--budget-minutes", "1", "--budget-seconds", "60"],
        ["predict", "--split", "half"],
        ["ingest", "x", "--set", "tile=31"],
        ["detect", "x", "y", "--formats", "shapefile"],
        ["detect", "x", "y", "--formats", ","],
    ],
)
def test_impossible_value_of_an_option_ends_with_2(arguments, tilehawk, folder):
    typed = tilehawk(*arguments, "--json")
    assert typed.code == 2, typed.out
    assert typed.document["expected"]
