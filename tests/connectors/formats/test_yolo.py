from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import yolo
from connectors.formats.contract import MARK
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile

LINE = "0 0.5 0.5 0.2 0.4\n"
NAMES = "names: [car, 'yes']\n"


@pytest.fixture
def scenes(fake):
    """Two scenes of one stem in two folders, and a third."""
    return fake("frames").Scenes(("data/train/a.jpg", 200, 100), ("data/val/a.jpg", 400, 100), ("b.tif", 50, 50))


def dataset(folder, *, names=NAMES, **files):
    """A folder with ``data.yaml`` and files by their paths, a double underscore for a slash, text files where nothing else is said."""
    folder.mkdir(parents=True, exist_ok=True)
    if names is not None:
        (folder / "data.yaml").write_text(names)
    for place, text in files.items():
        path = folder / place.replace("__", "/")
        path = path if path.suffix else path.with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_shares_become_pixels_of_the_scene_that_the_name_leads_to(tmp_path, scenes):
    found = yolo.read(dataset(tmp_path / "set", labels__train__a=LINE, labels__val__a=LINE + "1 0 0 0.5 0.5\n\n"), scenes)
    assert (found.label_set.names, found.source, found.unusable) == (("car", "yes"), "set", ())
    train, val = found.images
    assert (train.image, train.width, train.height) == ("labels/train/a.txt", 200, 100)
    np.testing.assert_allclose(train.boxes_scene.xyxy, [[80, 30, 120, 70]])
    np.testing.assert_allclose(val.boxes_scene.xyxy, [[160, 30, 240, 70], [0, 0, 100, 25]], atol=1e-9)
    assert val.boxes_scene.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "layout",
    [
        {"labels__b": LINE, "images__b.tif": ""},
        {"train__labels__b": LINE, "train__images__b.tif": ""},
        {"labels__b": LINE},
        {"b": LINE, "b.tif": "", "train": "images/b.tif"},
        {"labels__b.tif.txt": LINE},
    ],
)
def test_a_label_file_belongs_to_the_picture_of_its_name(tmp_path, scenes, layout):
    found = yolo.read(dataset(tmp_path, **layout), scenes)
    assert [(image.width, len(image.boxes_scene)) for image in found.images] == [(50, 1)]


def test_a_picture_without_a_label_file_has_no_objects(tmp_path, scenes):
    found = yolo.read(dataset(tmp_path, labels__train__a=LINE, **{"images__train__a.jpg": "", "images__b.tif": "", "logo.png": ""}), scenes)
    assert {image.image: len(image.boxes_scene) for image in found.images} == {"images/train/a.jpg": 1, "images/b.tif": 0}


def test_an_image_of_no_scene_is_named_without_boxes(tmp_path, scenes):
    found = yolo.read(dataset(tmp_path, labels__c=LINE, labels__a=LINE), scenes)
    assert [(image.image, image.width, len(image.boxes_scene)) for image in found.images] == [
        ("labels/a.txt", 0, 0),
        ("labels/c.txt", 0, 0),
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [no, 3, tree house]", ("no", "3", "tree house")),
        ("nc: 2\nnames:\n  0: car\n  1: Gebäude\n", ("car", "Gebäude")),
        ("names: {7: truck, 0: car}", ("car", "truck")),
        ("names: &list [car]\nother: *list\n", ("car",)),
    ],
)
def test_names_are_a_list_or_a_mapping_and_stay_text(tmp_path, scenes, names, expected):
    assert yolo.read(dataset(tmp_path, names=names, labels__b=LINE), scenes).label_set.names == expected


def test_ids_with_gaps_are_labels_in_their_order(tmp_path, scenes):
    found = yolo.read(dataset(tmp_path, names="names: {7: truck, 0: car}", labels__b="7 0.5 0.5 0.2 0.4\n" + LINE), scenes)
    assert found.images[0].boxes_scene.labels.tolist() == [1, 0]


@pytest.mark.parametrize("place", ["classes.txt", "labels__classes.txt", "obj.names"])
def test_a_list_of_names_does_as_well(tmp_path, scenes, place):
    found = yolo.read(dataset(tmp_path, names=None, labels__b=LINE, **{place: "\ufeffcar\r\ntruck\n\n"}), scenes)
    assert (found.label_set.names, len(found.images)) == (("car", "truck"), 1)


def test_the_yaml_names_the_folder_too_and_says_nothing_of_other_places(tmp_path, scenes):
    (tmp_path / "elsewhere.txt").write_text("secret")
    folder = dataset(tmp_path / "set", names=f"path: {tmp_path}\ntrain: ../../\nval: /etc\n{NAMES}", labels__b=LINE)
    assert len(yolo.read(folder / "data.yaml", scenes).images) == 1


def test_a_polygon_becomes_its_upright_hull_and_keypoints_are_left_out(tmp_path, scenes):
    polygon = "0 0.2 0.2 0.6 0.3 0.4 0.8\n0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n"
    found = yolo.read(dataset(tmp_path / "polygons", labels__b=polygon), scenes)
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, [[10, 10, 30, 40], [5, 5, 15, 15]])
    keypoints = dataset(tmp_path / "pose", names=NAMES + "kpt_shape: [2, 2]\n", labels__b="0 0.5 0.5 0.2 0.4 0.1 0.1 0.9 0.9\n")
    np.testing.assert_allclose(yolo.read(keypoints, scenes).images[0].boxes_scene.xyxy, [[20, 15, 30, 35]])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 345 120 40 30", "345 is no share"),
        ("0 0.5 0.5 1.2 0.1", "1.2 is no share"),
        ("0 -0.1 0.5 0.1 0.1", "-0.1 is no share"),
        ("0 0.5 0.5 nan 0.1", "not a finite number"),
        ("0 0.5 0.5 1e999 0.1", "not a finite number"),
        ("0 0.1 0.1 0.5 0.5 0.1 nan", "not a finite number"),
        ("0 0.5 0.5 0 0.1", "no area"),
    ],
)
def test_numbers_that_make_no_box_leave_it_out_by_file_and_line(tmp_path, scenes, line, reason):
    found = yolo.read(dataset(tmp_path, labels__b=LINE + line), scenes)
    assert len(found.images[0].boxes_scene) == 1
    (lost,) = found.unusable
    assert lost.reason.startswith("labels/b.txt, line 2: ")
    assert reason in lost.reason


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("0 0.5 0.5 0.2", "4 fields"),
        ("0 0.5 0.5 0.2 0.4 0.9", "6 fields"),
        ("0 0.5 0.5 0.2 0.4 0.9 0.1 0.2", "8 fields"),
        ("car 0.5 0.5 0.2 0.4", "not made of numbers"),
        ("0,0.5,0.5,0.2,0.4", "not made of numbers"),
        ("0.5 0.5 0.5 0.2 0.4", "class '0.5'"),
        ("-1 0.5 0.5 0.2 0.4", "class '-1'"),
        ("nan 0.5 0.5 0.2 0.4", "class 'nan'"),
        ("1e300 0.5 0.5 0.2 0.4", "class '1e300'"),
        ("2 0.5 0.5 0.2 0.4", "class 2, and there are names for 0 to 1"),
    ],
)
def test_a_line_that_is_no_object_refuses_all_and_is_named(tmp_path, scenes, line, named):
    with pytest.raises(BadInput, match=rf"labels/c\.txt, line 2: .*{named}"):
        yolo.read(dataset(tmp_path, labels__b=LINE, labels__c=LINE + line), scenes)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (None, "names no classes"),
        ("names: []", "has no names"),
        ("names: {}", "has no names"),
        ("names: car", "has no names"),
        ("names: {car: 0}", "'car' in names"),
        ("names: [[car]]", "in names"),
        ("names: [car, car]", "'car' stands twice"),
        ("nc: 3\nnames: [car]", "nc is '3'"),
        ("- names", "holds a list"),
        ("names: [car", "not YAML"),
        ("names: " + "[" * 20_000, "not YAML"),
        ("names: [car]\nkpt_shape: many", "kpt_shape"),
    ],
)
def test_names_that_make_no_sense_are_refused(tmp_path, scenes, names, named):
    with pytest.raises(BadInput, match=named):
        yolo.read(dataset(tmp_path / "set", names=names, labels__b=LINE), scenes)


@pytest.mark.parametrize("place", ["names", "nc", "kpt_shape", "key"])
def test_aliases_that_multiply_are_not_written_out(tmp_path, scenes, place):
    layers = "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9))
    last = {"names": "names: [*a9]", "nc": "names: [car]\nnc: *a9", "kpt_shape": "names: [car]\nkpt_shape: *a9", "key": "names: {[x]: *a9}"}
    with pytest.raises(BadInput) as refused:
        yolo.read(dataset(tmp_path / "set", names=f"a0: &a0 car\n{layers}{last[place]}", labels__b=LINE), scenes)
    assert len(str(refused.value)) < 500


def test_a_yaml_makes_nothing_but_text(tmp_path, scenes):
    canary = tmp_path / "canary"
    names = f"names: !!python/object/apply:os.system ['touch {canary}']"
    assert yolo.read(dataset(tmp_path / "set", names=names, labels__b=LINE), scenes).label_set.names == (f"touch {canary}",)
    assert not canary.exists()


def test_two_yaml_files_a_folder_of_nothing_and_a_link_out_are_refused(tmp_path, scenes):
    folder = dataset(tmp_path / "set", **{"other.yml": NAMES})
    with pytest.raises(BadInput, match=r"data\.yaml, other\.yml"):
        yolo.read(folder, scenes)
    (folder / "other.yml").unlink()
    with pytest.raises(BadInput, match="no pictures and no label file"):
        yolo.read(folder, scenes)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "labels").mkdir()
    (folder / "labels" / "b.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(BadInput, match="link that leads out"):
        yolo.read(folder, scenes)


@pytest.mark.parametrize("names", ["data.yaml", "classes.txt"])
def test_pictures_without_one_label_file_are_not_a_folder_of_empty_ones(tmp_path, scenes, names):
    folder = dataset(tmp_path, names=None, **{names: NAMES if names == "data.yaml" else "car\n", "images__train__a.jpg": "", "b.tif": ""})
    with pytest.raises(BadInput, match="holds 2 pictures and no label file"):
        yolo.read(folder, scenes)


def test_a_folder_of_labels_that_may_not_be_read_is_named(fake, scenes):
    with fake("permissions").locked() as folder:
        dataset(folder, labels__train__a=LINE, labels__val__b=LINE, **{"images__train__a.jpg": "", "images__val__b.tif": ""})
        with fake("permissions").closed(folder / "labels" / "val"), pytest.raises(BadInput, match="labels/val cannot be read: Permission"):
            yolo.read(folder, scenes)


@pytest.mark.guarantee("G14")
@pytest.mark.parametrize("place", ["obj.names", "labels/classes.txt"])
def test_a_list_of_names_that_is_a_link_out_of_the_folder_is_refused(tmp_path, scenes, place):
    folder = dataset(tmp_path / "set", names=None, labels__b=LINE)
    (tmp_path / "hostname").write_text("secret\n")
    (folder / place).symlink_to(tmp_path / "hostname")
    with pytest.raises(BadInput, match="link that leads out"):
        yolo.read(folder, scenes)


CLASSES = st.lists(
    st.text(min_size=1, max_size=6).filter(lambda name: name == name.strip() and name.isprintable()), min_size=1, unique=True
)


@st.composite
def label_files(draw):
    names = LabelSet.of(draw(CLASSES))
    images = []
    for number in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(1, 40_000)), draw(st.integers(1, 40_000))
        boxes = []
        for _ in range(draw(st.integers(0, 4))):
            x1, y1 = draw(st.floats(0, 0.9)) * width, draw(st.floats(0, 0.9)) * height
            boxes.append((x1, y1, x1 + draw(st.floats(0.001, 0.1)) * width, y1 + draw(st.floats(0.001, 0.1)) * height))
        labels = [draw(st.integers(0, len(names) - 1)) for _ in boxes]
        split = draw(st.sampled_from(["train", "dev", "test", None]))
        images.append(ImageLabels(f"in/{number}.tif", width, height, Boxes(boxes, labels), split=split))
    return LabelFile(names, tuple(images))


@settings(max_examples=50, deadline=None)
@given(records=label_files())
def test_what_is_written_is_read_back(records, tmp_path_factory, fake):
    folder = tmp_path_factory.mktemp("yolo") / "set"
    yolo.write(folder, records)
    again = yolo.read(folder, fake("frames").Scenes(*((image.image, image.width, image.height) for image in records.images)))
    assert (again.label_set, again.unusable) == (records.label_set, ())
    by_stem = {image.image.rpartition("/")[2].removesuffix(".txt"): image for image in again.images}
    for number, before in enumerate(records.images):
        after = by_stem[str(number)].boxes_scene
        assert after.labels.tolist() == before.boxes_scene.labels.tolist()
        assert after.xyxy == pytest.approx(before.boxes_scene.xyxy, abs=2e-5)


def test_a_written_folder_has_splits_names_and_pictures(tmp_path, fake):
    box = Boxes([[0, 0, 8, 4]], [1])
    images = [
        ImageLabels(name, 16, 8, box, split=split)
        for name, split in (("in/a.tif", "train"), ("b.tif", "dev"), ("b.png", "test"), ("c", None))
    ]
    yolo.write(tmp_path / "set", LabelFile(LabelSet.of(["no", "car: 'red'"]), tuple(images)), fake("frames").Pictures())
    written = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    places = ["train/in/a", "val/b.tif", "test/b.png", "unsplit/c"]
    assert written == {"data.yaml", MARK, *(f"labels/{place}.txt" for place in places), *(f"images/{place}.png" for place in places)}
    assert (tmp_path / "set/labels/train/in/a.txt").read_text() == "1 0.2500000000 0.2500000000 0.5000000000 0.5000000000\n"
    assert yaml.safe_load((tmp_path / "set/data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "names": {0: "no", 1: "car: 'red'"},
    }


def ultralytics_label_file(picture):
    """Where Ultralytics looks for the labels of a picture (``img2label_paths``)."""
    return Path("/labels/".join(str(picture).rsplit("/images/", 1))).with_suffix(".txt")


def test_scenes_below_a_folder_called_images_keep_their_labels(tmp_path, fake):
    names = ("train/images/a.png", "val/images/a.png", "x/images_/b.png", "x/images/b.png", "labels/images.png")
    images = [ImageLabels(name, 16, 8, Boxes([[0, 0, 8, 4]], [0]), split="train") for name in names]
    yolo.write(tmp_path / "set", LabelFile(LabelSet.of(["car"]), tuple(images)), fake("frames").Pictures())
    pictures = sorted((tmp_path / "set" / "images").rglob("*.png"))
    assert len(pictures) == 5
    assert all(ultralytics_label_file(picture).is_file() for picture in pictures)
    scenes = fake("frames").Scenes(*((name, 16, 8) for name in ("train/images/a.png", "val/images/a.png", "labels/images.png")))
    found = {image.image: len(image.boxes_scene) for image in yolo.read(tmp_path / "set", scenes).images}
    assert found == {
        "images/train/labels/images.png": 1,
        "images/train/train/images/a.png": 1,
        "images/train/val/images/a.png": 1,
        "images/train/x/images_/b.png.png": 0,
        "images/train/image-4.png": 0,
    }
