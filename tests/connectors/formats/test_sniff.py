import json
import sqlite3

import numpy as np
import pyogrio
import pytest
import shapely

from connectors.formats.contract import MARK
from connectors.formats.sniff import located
from engine.errors import BadInput

VOC = "<annotation><filename>a</filename></annotation>"
COCO = json.dumps({"images": [], "annotations": [], "categories": []})
ISAID = json.dumps({"images": [{"file_name": "P0001.png", "seg_file_name": "x"}], "annotations": [{}], "categories": []})
GEOJSON = json.dumps({"features": [], "type": "FeatureCollection"})
DOTA = "imagesource:GoogleEarth\ngsd:1\n1 2 3 4 5 6 7 8 ship 0\n"
YOLO = "0 0.5 0.5 0.1 0.1\n"


def fill(folder, files):
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def layer(path, driver):
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)])),
        [np.array(["oak"], dtype=object)],
        ["class"],
        driver=driver,
        geometry_type="Polygon",
        crs="EPSG:32617",
    )
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", COCO, "coco"),
        ("a.json", ISAID, "isaid"),
        ("a.geojson", GEOJSON, "geojson"),
        ("a.json", "\ufeff \n" + GEOJSON, "geojson"),
        ("a.xml", VOC, "voc"),
        ("a", "\ufeff<?xml version='1.0'?>\n" + VOC, "voc"),
        ("P0001.txt", DOTA, "dota"),
        ("P0001.txt", "1 2 3 4 5 6 7 8 ship\n", "dota"),
        ("data.yaml", "names: [car]", "yolo"),
    ],
)
def test_a_file_is_known_by_its_content(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert located(tmp_path / name, None) == (expected, tmp_path / name)


@pytest.mark.parametrize(("name", "driver", "expected"), [("a.gpkg", "GPKG", "gpkg"), ("a.shp", "ESRI Shapefile", "shapefile")])
def test_layers_are_known_by_their_first_bytes(tmp_path, name, driver, expected):
    path = layer(tmp_path / name, driver)
    assert located(path, None)[0] == expected
    assert located(tmp_path, None) == (expected, path)
    path.rename(tmp_path / "renamed.bin")
    assert located(tmp_path / "renamed.bin", None)[0] == expected


@pytest.mark.parametrize(
    ("files", "expected", "place"),
    [
        ({"data.yaml": "names: [car]", "labels/a.txt": YOLO}, "yolo", ""),
        ({"set/data.yaml": "names: [car]", "set/labels/a.txt": YOLO, "__MACOSX/x": ""}, "yolo", "set"),
        ({"classes.txt": "car", "a.txt": YOLO, "notes.json": "{}"}, "yolo", ""),
        ({"labels/a.txt": YOLO}, "yolo", "labels"),
        ({"labelTxt/P1.txt": DOTA, "images/P1.png": ""}, "dota", ""),
        ({"Annotations/a.xml": VOC, "ImageSets/Main/train.txt": "a\n", MARK: "{}"}, "voc", ""),
        ({"a.xml": VOC, "a.tif.aux.xml": "<PAMDataset/>"}, "voc", ""),
        ({"annotations.json": COCO, "images/a.png": "", MARK: "{}"}, "coco", "annotations.json"),
        ({"x/labels.geojson": GEOJSON, "x/readme.txt": "see here"}, "geojson", "x/labels.geojson"),
    ],
)
def test_a_folder_is_known_by_what_it_holds(tmp_path, files, expected, place):
    assert located(fill(tmp_path / "f", files), None) == (expected, tmp_path / "f" / place)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, "holds no labels"),
        ({"a.csv": "a,b"}, "holds no labels"),
        ({"a.json": COCO, "b.json": COCO}, r"several kinds: coco \(a\.json, b\.json\)"),
        ({"a.xml": VOC, "b.json": COCO}, "several kinds: coco, voc"),
        ({"P1.txt": DOTA, "a.txt": YOLO}, "several kinds: dota, yolo"),
    ],
)
def test_a_folder_of_none_or_several_says_so(tmp_path, files, named):
    with pytest.raises(BadInput, match=named):
        located(fill(tmp_path / "f" / "g", files) if files else fill(tmp_path, {}), None)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.csv", b"a,b", "no known format"),
        ("a.txt", b"hello there", "no known format"),
        ("a.txt", b"", "no known format"),
        ("a.txt", YOLO.encode(), "Name the folder"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"[1]", "holds a list"),
        ("a.bin", bytes(range(256)), "no known format"),
        ("none", None, "no label file"),
    ],
)
def test_a_file_of_no_known_format_is_named(tmp_path, name, content, named):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=named) as refused:
        located(tmp_path / name, None)
    assert name in str(refused.value)


def test_another_database_is_no_geopackage(tmp_path):
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        database.execute("create table a (b)")
    database.close()
    with pytest.raises(BadInput, match="no GeoPackage"):
        located(tmp_path / "a.gpkg", None)


def test_a_format_that_is_named_is_not_asked_again(tmp_path):
    folder = fill(tmp_path / "f", {"P1.txt": DOTA, "a.json": COCO, "b.xml": VOC})
    assert located(folder, "dota") == ("dota", folder)
    assert located(folder, "isaid") == ("isaid", folder / "a.json")
    assert located(folder / "a.json", "isaid") == ("isaid", folder / "a.json")
    with pytest.raises(BadInput, match="holds 0 files that may be meant: none"):
        located(folder, "gpkg")
