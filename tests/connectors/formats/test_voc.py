from importlib.util import find_spec
from pathlib import Path

import pytest

from connectors.formats import voc
from engine.errors import BadInput

FILE = (
    "<annotation><folder>x</folder><filename>{name}</filename>"
    "<size><width>100</width><height>80</height><depth>3</depth></size>{objects}</annotation>"
)
OBJECT = "<object><name>{name}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"


def voc_file(name="a.tif", *objects):
    return FILE.format(name=name, objects="".join(OBJECT.format(*box, name=thing) for thing, box in objects))


def test_one_file_is_one_image(tmp_path):
    (tmp_path / "a.xml").write_text(voc_file("a.tif", ("Tree", (1, 2, 30, 40.5)), ("Car", (5, 5, 10, 10))))
    found = voc.read(tmp_path / "a.xml")
    assert (found.label_set.names, found.source) == (("Car", "Tree"), "a.xml")
    (image,) = found.images
    assert (image.image, image.width, image.height) == ("a.tif", 100, 80)
    assert image.boxes_scene.xyxy.tolist() == [[1, 2, 30, 40.5], [5, 5, 10, 10]]
    assert image.boxes_scene.labels.tolist() == [1, 0]


def test_a_folder_is_read_with_its_subfolders_and_without_sidecars(tmp_path):
    folder = tmp_path / "labels"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.xml").write_text(voc_file("b.tif", ("Tree", (0, 0, 5, 5))))
    (folder / "deep" / "c.xml").write_text(voc_file("c.tif", ("Car", (0, 0, 5, 5)), ("Car", (200, 0, 205, 5))))
    (folder / "empty.xml").write_text(voc_file("empty.tif"))
    (folder / "b.tif.aux.xml").write_text("<PAMDataset/>")
    (folder / "notes.txt").write_text("not xml")
    found = voc.read(folder)
    assert found.label_set.names == ("Car", "Tree")
    assert {image.image: image.boxes_scene.labels.tolist() for image in found.images} == {"b.tif": [1], "c.tif": [0], "empty.tif": []}
    assert [box.image for box in found.unusable] == ["c.tif"]
    assert found.source == "labels"


def test_an_image_without_a_size_is_taken(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><filename>a</filename></annotation>")
    assert [(image.width, image.height) for image in voc.read(tmp_path / "a.xml").images] == [(0, 0)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no safe XML"),
        ("<annotation>", "no safe XML"),
        ("<html/>", "<html>"),
        (voc_file("a", ("Tree", (1, 2, 3, 4))).replace("<filename>a</filename>", ""), "<filename>"),
        (voc_file("a", ("", (1, 2, 3, 4))), "<name>"),
        (voc_file("a", ("Tree", (1, 2, 3, 4))).replace("<xmin>1</xmin>", ""), "<bndbox/xmin>"),
        (voc_file("a", ("Tree", (1, 2, 3, "four"))), "'four'"),
        (voc_file("a").replace("<width>100", "<width>nan"), "<size/width>"),
        (voc_file("a").replace("<width>100", "<width>1e999"), "<size/width>"),
        (voc_file("a").replace("<width>100", "<width>-1"), "<size/width>"),
        (voc_file("a").replace("<height>80</height>", ""), "<size/height>"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation><filename>&x;</filename></annotation>', "no safe XML"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><filename>&x;</filename></annotation>', "no safe XML"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_the_file(tmp_path, text, named):
    (tmp_path / "bad.xml").write_text(text)
    with pytest.raises(BadInput, match=named) as refused:
        voc.read(tmp_path / "bad.xml")
    assert "bad.xml" in str(refused.value)


def test_a_folder_without_xml_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no xml"):
        voc.read(tmp_path)
    with pytest.raises(BadInput, match=r"none\.xml"):
        voc.read(tmp_path / "none.xml")


def test_two_files_for_one_image_are_refused(tmp_path):
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_text(voc_file("same.tif"))
    with pytest.raises(BadInput, match=r"same\.tif"):
        voc.read(tmp_path)


def test_real_files_of_tree_crowns_are_read():
    package = find_spec("deepforest")
    if package is None:
        pytest.skip("the demo's data package is not installed")
    found = voc.read(Path(package.origin).parent / "data" / "OSBS_029.xml")
    assert (found.label_set.names, found.unusable) == (("Tree",), ())
    assert [(image.image, image.width, len(image.boxes_scene)) for image in found.images] == [("OSBS_029.tif", 400, 61)]
