"""labels import and labels export, as they are typed."""

from __future__ import annotations

import json

import pytest

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 96}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}],
    "categories": [{"id": 1, "name": "car"}],
}


@pytest.fixture
def folder(tilehawk, write_picture, tmp_path, monkeypatch):
    """A workspace of one picture, named by the environment, with its labels imported."""
    write_picture(tmp_path / "imagery" / "a.png", width=96, height=96)
    (tmp_path / "first.json").write_text(json.dumps(COCO))
    monkeypatch.setenv("TILEHAWK_WORKSPACE", str(tmp_path / "workspace"))
    for command in (
        ("init",),
        ("ingest", tmp_path / "imagery", "--set", "tile=32", "--set", "overlap=0"),
        ("labels", "import", tmp_path / "first.json"),
    ):
        assert tilehawk(*command).code == 0
    return tmp_path


@pytest.mark.parametrize(("written_as", "name"), [("coco", "out.json"), ("yolo", "out"), ("voc", "out"), ("gpkg", "out.gpkg")])
def test_labels_go_out_and_come_back(tilehawk, folder, written_as, name):
    written = tilehawk("labels", "export", written_as, folder / name, "--json")
    assert (written.code, written.document["boxes"], written.document["format"]) == (0, 1, written_as)
    back = tilehawk("labels", "import", folder / name, "--json")
    assert (back.code, back.document["added"], back.document["unchanged"]) == (0, 0, 1)


def test_tiles_and_pictures_are_asked_for_by_options(tilehawk, folder):
    written = tilehawk("labels", "export", "yolo", folder / "out", "--per", "tile", "--images", "copy", "--reviewed", "--json")
    assert (written.code, written.document["images"]) == (0, len(list((folder / "out" / "images").rglob("*.png"))))
    assert tilehawk("labels", "export", "voc", folder / "out").code == 3
    assert tilehawk("labels", "export", "voc", folder / "out", "--overwrite").code == 0


def test_what_a_gis_layer_leaves_open_is_stated_by_options(tilehawk, folder):
    ring = [[1, 1], [2, 1], [2, 2], [1, 1]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (folder / "trees.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    options = ["--format", "geojson", "--class-name", "car", "--crs", "OGC:CRS84", "--point-size", "5"]
    typed = tilehawk("labels", "import", folder / "trees.geojson", *options, "--json")
    assert (typed.code, "no scene of this workspace does" in typed.document["found"]) == (3, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "first.json", "--format", "csv"],
        ["import", "first.json", "--point-size", "0"],
        ["export", "csv", "out"],
        ["export", "coco", "out.json", "--per", "image"],
        ["export", "coco", "out.json", "--images", "all"],
        ["export", "gpkg", "out.json"],
        ["export", "gpkg", "out.gpkg", "--per", "tile"],
    ],
)
def test_an_impossible_option_ends_with_2_and_writes_nothing(tilehawk, folder, arguments):
    typed = tilehawk("labels", *(folder / word if "." in word or word == "out" else word for word in arguments), "--json")
    assert typed.code == 2, typed.out
    assert sorted(path.name for path in folder.iterdir()) == ["current", "first.json", "imagery", "workspace"]
