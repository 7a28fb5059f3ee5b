import json
import time

import pytest

from connectors.formats import coco
from engine.errors import BadInput


@pytest.fixture
def document():
    return {
        "images": [{"id": 7, "file_name": "b/two.png", "width": 100, "height": 80}, {"id": 3, "file_name": "one.png"}],
        "categories": [{"id": 9, "name": "ship"}, {"id": 2, "name": "plane"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [10, 20, 30, 5.5], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]},
            {"id": 3, "image_id": 3, "category_id": 2, "bbox": [5, 5, 10, 10]},
        ],
    }


@pytest.fixture
def read(tmp_path):
    def write_and_read(document):
        (tmp_path / "labels.json").write_text(document if isinstance(document, str) else json.dumps(document))
        return coco.read(tmp_path / "labels.json")

    return write_and_read


def test_classes_stand_in_the_order_of_their_ids_and_boxes_as_corners(read, document):
    found = read(document)
    assert found.label_set.names == ("plane", "ship")
    assert [(image.image, image.width, image.height) for image in found.images] == [("b/two.png", 100, 80), ("one.png", 0, 0)]
    assert found.images[0].boxes_scene.xyxy.tolist() == [[10, 20, 40, 25.5], [0, 0, 1, 1]]
    assert found.images[0].boxes_scene.labels.tolist() == [1, 0]
    assert found.images[1].boxes_scene.xyxy.tolist() == [[5, 5, 15, 15]]
    assert (found.source, found.unusable, found.crowd) == ("labels.json", (), 0)


def test_an_image_without_objects_is_kept(read, document):
    document["annotations"] = []
    assert [len(image.boxes_scene) for image in read(document).images] == [0, 0]


def test_crowds_are_left_out_and_counted(read, document):
    document["annotations"][0]["iscrowd"] = 1
    found = read(document)
    assert (found.crowd, len(found.images[0].boxes_scene)) == (1, 1)


def drop(table, key):
    def change(document):
        del document[table][0][key]

    return change


def put(table, key, value):
    def change(document):
        document[table][0][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda document: document.pop("images"), "'images'"),
        (lambda document: document.pop("annotations"), "'annotations'"),
        (lambda document: document.update(categories={"id": 1}), "'categories'"),
        (lambda document: document.update(annotations=[1]), "'annotations'"),
        (drop("images", "id"), "'id'"),
        (drop("images", "file_name"), "'file_name'"),
        (drop("categories", "name"), "'name'"),
        (drop("annotations", "image_id"), "'image_id'"),
        (drop("annotations", "category_id"), "'category_id'"),
        (drop("annotations", "bbox"), "'bbox'"),
        (put("annotations", "bbox", [1, 2, 3]), "bbox"),
        (put("annotations", "bbox", [1, 2, 3, "4"]), "bbox"),
        (put("annotations", "bbox", [1, 2, 3, True]), "bbox"),
        (put("annotations", "bbox", None), "bbox"),
        (put("annotations", "image_id", 99), "image_id = 99"),
        (put("annotations", "category_id", 99), "category_id = 99"),
        (put("annotations", "image_id", []), "'image_id'"),
        (put("images", "id", 3), "id 3 stands twice"),
        (put("images", "width", -5), "'width'"),
        (put("images", "width", 1.5), "'width'"),
        (put("categories", "id", 2), "id 2 stands twice"),
        (put("categories", "name", "plane"), "'plane' stands twice"),
        (put("categories", "name", ""), "class name ''"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_the_file(read, document, change, named):
    change(document)
    with pytest.raises(BadInput, match=named) as refused:
        read(document)
    assert "labels.json" in str(refused.value)


def test_a_hundred_thousand_ids_are_checked_at_once(read, document):
    document["images"] += [{"id": number, "file_name": str(number)} for number in range(100, 50_000)] * 2
    began = time.process_time()
    with pytest.raises(BadInput, match="the id 100 stands twice"):
        read(document)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "[" * 100_000, '{"images": [}'])
def test_what_is_no_coco_json_is_refused(read, text):
    with pytest.raises(BadInput, match=r"labels\.json"):
        read(text)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "labels.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "labels.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(BadInput, match=path.name):
            coco.read(path)


@pytest.mark.parametrize("huge", ["1e400", "-1e400", "NaN", "1" + "0" * 400])
def test_a_number_beyond_all_bounds_makes_a_box_unusable(read, document, huge):
    document["annotations"][0]["bbox"][2] = 12345
    found = read(json.dumps(document).replace("12345", huge))
    assert [(box.image, box.reason) for box in found.unusable] == [("b/two.png", "a coordinate is not a finite number")]
    assert len(found.images[0].boxes_scene) == 1


@pytest.mark.parametrize(
    ("folder", "classes", "images", "boxes"),
    [
        ("nwpu_vhr10/train", 10, 520, 2989),
        ("nwpu_vhr10/val", 10, 130, 932),
        ("isaid_sample/annotations", 15, 3, 306),
    ],
)
def test_real_files_are_read_whole(real_data, folder, classes, images, boxes):
    path = real_data / f"{folder}.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found = coco.read(path)
    assert (len(found.label_set), len(found.images), found.unusable) == (classes, images, ())
    assert sum(len(image.boxes_scene) for image in found.images) == boxes
