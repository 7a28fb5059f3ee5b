from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import voc
from connectors.formats.contract import MARK, ReadOptions
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile

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


def test_difficult_objects_are_dropped_and_counted_where_that_is_asked_for(tmp_path):
    text = voc_file("a.tif", ("Tree", (1, 2, 30, 40)), ("Car", (5, 5, 10, 10)))
    (tmp_path / "a.xml").write_text(text.replace("<name>Car</name>", "<name>Car</name><difficult>1</difficult>"))
    kept, dropped = (voc.read(tmp_path / "a.xml", options=ReadOptions(difficult=choice)) for choice in ("keep", "drop"))
    assert [(len(found.images[0].boxes_scene), found.difficult) for found in (kept, dropped)] == [(2, 0), (1, 1)]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.xml").write_text(voc_file("a"))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.xml").symlink_to(tmp_path / "secret.xml")
    with pytest.raises(BadInput, match="link that leads out"):
        voc.read(tmp_path / "labels")


CLASSES = ("Gebäude", "tree & <b>ush</b>")


@st.composite
def label_files(draw):
    images = []
    for number in range(draw(st.integers(1, 3))):
        corners = st.tuples(st.floats(0, 500), st.floats(0, 500))
        pairs = draw(st.lists(st.tuples(corners, st.tuples(st.floats(0.01, 499), st.floats(0.01, 499))), max_size=4))
        boxes = Boxes([(x, y, x + width, y + height) for (x, y), (width, height) in pairs], [draw(st.integers(0, 1)) for _ in pairs])
        images.append(ImageLabels(f'in/"{number}" & <x>.tif', 1000, 1000, boxes))
    return LabelFile(LabelSet(CLASSES), tuple(images))


@settings(max_examples=50, deadline=None)
@given(records=label_files())
def test_what_is_written_is_read_back_to_the_last_bit(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc") / "set"
    voc.write(folder, records)
    again = voc.read(folder)
    assert again.unusable == ()
    assert sorted(again.label_set.names) == list(again.label_set.names)
    for before, after in zip(sorted(records.images, key=lambda image: image.image), again.images, strict=True):
        assert (after.image, after.width, after.height) == (before.image, 1000, 1000)
        assert after.boxes_scene.xyxy.tolist() == before.boxes_scene.xyxy.tolist()
        assert [again.label_set.names[label] for label in after.boxes_scene.labels] == [
            CLASSES[label] for label in before.boxes_scene.labels
        ]


def test_a_written_folder_has_a_file_an_image_the_splits_and_the_pictures(tmp_path, fake):
    box = Boxes([[0, 0, 8, 4.5]], [0])
    images = tuple(
        ImageLabels(name, 16, 8, box, split=split)
        for name, split in (("in/a.tif", "train"), ("b.tif", "dev"), ("b.png", "test"), ("c", None))
    )
    voc.write(tmp_path / "set", LabelFile(LabelSet(CLASSES), images), fake("frames").Pictures())
    written = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    stems = ["in/a", "b.tif", "b.png", "c"]
    lists = {f"ImageSets/Main/{split}.txt" for split in ("train", "val", "test")}
    assert written == lists | {MARK} | {f"Annotations/{stem}.xml" for stem in stems} | {f"JPEGImages/{stem}.png" for stem in stems}
    assert (tmp_path / "set/ImageSets/Main/val.txt").read_text() == "b.tif\n"
    assert "<xmax>8</xmax><ymax>4.5</ymax>" in (tmp_path / "set/Annotations/in/a.xml").read_text()
    assert {image.image for image in voc.read(tmp_path / "set").images} == {f"{stem}.png" for stem in stems}


def test_a_name_that_xml_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(BadInput, match="cannot stand in XML"):
        voc.write(tmp_path / "set", LabelFile(LabelSet(("a\x07b",)), (ImageLabels("a", 9, 9, Boxes([[0, 0, 8, 4]], [0])),)))
    assert list(tmp_path.iterdir()) == []


def test_an_encoding_that_nobody_knows_is_named(tmp_path):
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="foo"?><annotation/>')
    with pytest.raises(BadInput, match=r"a\.xml is no safe XML: .*foo"):
        voc.read(tmp_path / "a.xml")
