"""Which connector reads a label file, and which writes a layer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.wiring import LAYER_SUFFIXES, read_labels, require_formats, write_layers
from engine.boxes import Boxes
from engine.errors import BadInput, UsageError
from engine.label_set import LabelSet
from engine.records import SceneDetections

VOC = """<annotation><filename>a.png</filename><size><width>9</width><height>9</height><depth>3</depth></size>
<object><name>car</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object></annotation>"""
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 4], "area": 12, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "car"}],
}


@pytest.mark.parametrize("name", ["labels.json", "LABELS.JSON", "labels.xml", "folder"])
def test_label_file_is_read_by_its_kind(name, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "a.xml").write_text(VOC)
    else:
        path.write_text(VOC if name.endswith("xml") else json.dumps(COCO))
    labels = read_labels(path)
    assert labels.label_set.names == ("car",)
    assert [(image.image, len(image.boxes_scene)) for image in labels.images] == [("a.png", 1)]


@pytest.mark.parametrize("name", ["missing.json", "labels.csv"])
def test_file_of_no_known_kind_is_named(name, tmp_path):
    (tmp_path / "labels.csv").write_text("a.png,1,1,3,4,car")
    with pytest.raises(BadInput, match=name):
        read_labels(tmp_path / name)


@pytest.mark.parametrize(("written", "formats"), [("gpkg", ["gpkg"]), ("GPKG, geojson", ["gpkg", "geojson"]), ("coco,coco,", ["coco"])])
def test_formats_are_named_once_each(written, formats):
    assert require_formats(written) == formats


@pytest.mark.parametrize(("written", "found"), [("", "no format"), (" , ", "no format"), ("gpkg,shp", "'shp'")])
def test_unknown_format_is_wrong_use(written, found):
    with pytest.raises(UsageError, match=found):
        require_formats(written)


def test_every_format_writes_its_file(tmp_path):
    boxes = Boxes(np.array([[1.0, 1, 4, 5]]), np.array([0]), np.array([0.5]))
    detections = SceneDetections("scene.of.march.tif", 9, 9, None, LabelSet.of(["car"]), boxes)
    files = write_layers(detections, tmp_path / "layers", list(LAYER_SUFFIXES))
    assert {name: path.name for name, path in files.items()} == {name: f"scene.of.march{suffix}" for name, suffix in LAYER_SUFFIXES.items()}
    assert sorted(path.name for path in (tmp_path / "layers").iterdir()) == sorted(path.name for path in files.values())
