"""Which connector reads a label file, and which writes a layer."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile

import numpy as np
import pytest

from app.wiring import (
    LABEL_FOLDERS,
    LABEL_WRITERS,
    LAYER_SUFFIXES,
    layer_stem,
    read_labels,
    require_formats,
    write_labels,
    write_layers,
)
from engine.boxes import Boxes
from engine.errors import BadInput, UsageError
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile, SceneDetections

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


@pytest.mark.parametrize("name", ["labels.zip", "labels.tar.gz"])
def test_labels_in_an_archive_are_read_and_nothing_of_it_is_left(name, tmp_path):
    (tmp_path / "set" / "labels").mkdir(parents=True)
    (tmp_path / "set" / "data.yaml").write_text("names: [car]")
    (tmp_path / "set" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\nx\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pack(tmp_path / name, tmp_path / "set")
    with pytest.raises(BadInput, match=rf"^{re.escape(name)}: labels/a\.txt, line 2"):
        read_labels(tmp_path / name, scratch=scratch)
    (tmp_path / "set" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    pack(tmp_path / name, tmp_path / "set")
    labels = read_labels(tmp_path / name, scratch=scratch)
    assert ([image.image for image in labels.images], labels.source) == (["labels/a.txt"], name)
    assert list(scratch.iterdir()) == []


def pack(archive, folder):
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as target:
            for path in sorted(folder.rglob("*")):
                target.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz") as target:
            target.add(folder, folder.name)


@pytest.mark.parametrize(
    ("scene", "stem"),
    [
        ("scene 1.tif", "scene 1"),
        ("north/roof.png", "roof"),
        (".hidden.png", "hidden"),
        ("..", "scene"),
        ('a:b\\c"d\n.png', "a_b_c_d_"),
        (f"{'ä' * 200}.tif", "ä" * 90),
    ],
)
def test_layer_files_are_named_after_their_scene(scene, stem):
    assert layer_stem(scene) == stem


@pytest.mark.parametrize("written_as", LABEL_WRITERS)
def test_every_format_of_labels_is_written_and_read_again(written_as, tmp_path, fake):
    image = ImageLabels("a.png", 9, 9, Boxes(np.array([[1.0, 1, 4, 5]]), np.array([0])))
    target = tmp_path / f"labels{LABEL_WRITERS[written_as]}"
    write_labels(written_as, target, LabelFile(LabelSet.of(["car"]), (image,)))
    assert target.is_dir() == (written_as in LABEL_FOLDERS)
    labels = read_labels(target, fake("frames").Scenes(("a.png", 9, 9)))
    assert labels.label_set.names == ("car",)
    np.testing.assert_allclose(labels.images[0].boxes_scene.xyxy, [[1, 1, 4, 5]], atol=1e-6)


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


@pytest.mark.parametrize("name", ["labels.json", "labels.zip", "folder"])
def test_labels_that_may_not_be_read_are_named(name, fake):
    with fake("permissions").locked() as folder:
        path = folder / name
        path.mkdir() if name == "folder" else path.write_text(json.dumps(COCO))
        with fake("permissions").closed(path), pytest.raises(BadInput, match=rf"{name}'? cannot be read: Permission denied"):
            read_labels(path)
    with fake("permissions").locked() as folder:
        (folder / "in").mkdir()
        with fake("permissions").closed(folder / "in"), pytest.raises(BadInput, match="cannot be read: Permission denied"):
            read_labels(folder / "in" / name)


def test_a_layer_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    boxes = Boxes(np.array([[1.0, 1, 4, 5]]), np.array([0]), np.array([0.5]))
    for kind in LAYER_SUFFIXES:
        with pytest.raises(BadInput, match=r"a\S* cannot be written"):
            write_layers(SceneDetections("a.tif", 9, 9, None, LabelSet.of(["car"]), boxes), tmp_path / "file" / "layers", [kind])
