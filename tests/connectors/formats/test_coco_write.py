import contextlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import coco
from engine.boxes import Boxes
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile

CLASSES = LabelSet(("tree", "Gebäude"))


@st.composite
def label_files(draw):
    """Labels on a grid of 1/64 px, where a width added to a left edge is exact."""
    images = []
    for number in range(draw(st.integers(0, 4))):
        generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        count = draw(st.integers(0, 5))
        corner = generator.integers(0, 64 * 50, (count, 2)) / 64
        xyxy = np.concatenate([corner, corner + generator.integers(1, 64 * 50, (count, 2)) / 64], axis=1)
        images.append(ImageLabels(f"scene {number}.tif", 100, 120, Boxes(xyxy, generator.integers(0, 2, count))))
    return LabelFile(CLASSES, tuple(images))


def same(a, b):
    return (a.image, a.width, a.height) == (b.image, b.width, b.height) and all(
        np.array_equal(getattr(a.boxes_scene, name), getattr(b.boxes_scene, name)) for name in ("xyxy", "labels")
    )


@settings(max_examples=40, deadline=None)
@given(records=label_files())
def test_what_is_written_is_read_back(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("coco") / "labels.json"
    coco.write(path, records)
    again = coco.read(path)
    assert again.label_set == records.label_set
    assert (again.unusable, again.crowd) == ((), 0)
    assert len(again.images) == len(records.images)
    assert all(same(before, after) for before, after in zip(records.images, again.images, strict=True))


def test_detections_keep_their_scene_classes_and_scores(fake, tmp_path):
    detections = fake("scenes").detections("utm")
    coco.write(tmp_path / "detections.json", detections.as_label_file())
    document = json.loads((tmp_path / "detections.json").read_text())
    assert document["images"] == [{"id": 1, "file_name": "scene.tif", "width": 400, "height": 300}]
    assert document["categories"] == [{"id": 1, "name": "tree"}, {"id": 2, "name": "Gebäude"}]
    assert [row["score"] for row in document["annotations"]] == detections.boxes_scene.scores.tolist()
    assert [row["category_id"] - 1 for row in document["annotations"]] == detections.boxes_scene.labels.tolist()
    assert [row["id"] for row in document["annotations"]] == [1, 2, 3, 4, 5]


def test_labels_without_scores_have_none_in_the_file(tmp_path):
    image = ImageLabels("a.png", 10, 10, Boxes(np.array([[1.0, 2.0, 4.0, 8.0]]), [1]))
    coco.write(tmp_path / "labels.json", LabelFile(CLASSES, (image,)))
    [row] = json.loads((tmp_path / "labels.json").read_text())["annotations"]
    assert row == {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 6.0], "area": 18.0, "iscrowd": 0}


@pytest.mark.parametrize("place", ["utm", None])
def test_the_reference_tool_reads_it(fake, place, tmp_path):
    from pycocotools.coco import COCO

    detections = fake("scenes").detections(place)
    coco.write(tmp_path / "detections.json", detections.as_label_file())
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(tmp_path / "detections.json"))
    assert len(loaded.getAnnIds(imgIds=[1])) == 5
    assert {category["name"] for category in loaded.loadCats(loaded.getCatIds())} == {"tree", "Gebäude"}


def test_a_folder_has_the_pictures_that_its_file_names(fake, tmp_path):
    box = Boxes(np.array([[1.0, 2.0, 4.0, 8.0]]), [1])
    images = tuple(ImageLabels(name, 10, 10, box) for name in ("in/a.tif", "../b.tif"))
    coco.write_folder(tmp_path / "set", LabelFile(CLASSES, images), fake("frames").Pictures())
    again = coco.read(tmp_path / "set" / "annotations.json")
    assert [image.image for image in again.images] == ["in/a.png", "image-2.png"]
    assert [(tmp_path / "set" / "images" / image.image).read_text() for image in again.images] == ["in/a.tif", "../b.tif"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_a_file_has_a_row_a_line_and_holds_none_of_them_for_long(tmp_path):
    side = np.arange(50_000.0)[:, None] % 90
    boxes = Boxes(np.hstack([side, side, side + 1.25, side + 1.5]), np.zeros(50_000, dtype=np.int64))
    labels = LabelFile(CLASSES, (ImageLabels("a.tif", 100, 100, boxes), ImageLabels("b.tif", 100, 100, Boxes.empty())))
    tracemalloc.start()
    coco.write(tmp_path / "labels.json", labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20, "the list of 50,000 boxes takes 10 MB"
    lines = (tmp_path / "labels.json").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ('{"images": [', "]}", 50_000 + 2 + 2 + 3 + 1 + 2)


def test_a_file_without_rows_is_json_too(tmp_path):
    coco.write(tmp_path / "labels.json", LabelFile(CLASSES, ()))
    assert json.loads((tmp_path / "labels.json").read_text())["annotations"] == []
