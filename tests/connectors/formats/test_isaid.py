import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import coco, isaid
from engine.errors import BadInput

SQUARE = [[10, 20, 30, 20, 30, 50, 10, 50]]


def document(*masks, file_name="P0003.png", **more):
    rows = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "segmentation": mask} for number, mask in enumerate(masks)
    ]
    image = {"id": 1, "file_name": file_name, "width": 100, "height": 80, **more}
    return {"images": [image], "categories": [{"id": 1, "name": "Large_Vehicle"}], "annotations": rows}


def read(folder, *masks, **more):
    (folder / "isaid.json").write_text(json.dumps(document(*masks, **more)))
    return isaid.read(folder / "isaid.json")


def boxes(folder, *masks):
    return read(folder, *masks).images[0].boxes_scene.xyxy.tolist()


def test_a_box_is_the_hull_of_the_polygons(tmp_path):
    assert boxes(tmp_path, SQUARE, [*SQUARE, [35, 60, 40, 60, 40, 65]]) == [[10, 20, 30, 50], [10, 20, 40, 65]]


def test_an_object_without_a_mask_has_its_bbox(tmp_path):
    assert boxes(tmp_path, [], None) == [[0, 0, 9, 9], [0, 0, 9, 9]]


def test_runs_go_down_the_columns_from_the_left(tmp_path):
    in_one_column = {"size": [80, 100], "counts": [80 * 3 + 5, 10, 80 * 97 - 15]}
    over_a_border = {"size": [80, 100], "counts": [75, 10, 8000 - 85]}
    assert boxes(tmp_path, in_one_column, over_a_border) == [[3, 5, 4, 15], [0, 0, 2, 80]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0.02, 0.98))
def test_a_compressed_code_takes_up_what_the_reference_tool_says(tmp_path_factory, seed, height, width, share):
    from pycocotools import mask as reference

    pixels = np.random.default_rng(seed).random((height, width)) < share
    pixels[0, 0] = True
    code = reference.encode(np.asfortranarray(pixels.astype(np.uint8)))
    x, y, box_width, box_height = reference.toBbox(code).tolist()
    mask = {"size": [height, width], "counts": code["counts"].decode()}
    assert boxes(tmp_path_factory.mktemp("isaid"), mask) == [[x, y, x + box_width, y + box_height]]


@pytest.mark.parametrize("mask", [{"size": [80, 100], "counts": [8000]}, [[1, 1, 5, float("nan"), 9, 9]], [[1, 1, 1e308 * 10, 5, 9, 9]]])
def test_a_mask_of_nothing_or_of_no_numbers_is_an_unusable_box(tmp_path, mask):
    assert len(read(tmp_path, mask).unusable) == 1


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, "4", 5, 6]],
        [1, 2, 3, 4, 5, 6],
        "polygon",
        {"counts": [1]},
        {"size": [80, 100]},
        {"size": [80, -100], "counts": [8000]},
        {"size": [80, 1 << 40], "counts": [80 << 40]},
        {"size": [80, 100], "counts": [10, 10]},
        {"size": [80, 100], "counts": [-1, 8001]},
        {"size": [80, 100], "counts": [0.5, 7999.5]},
        {"size": [80, 100], "counts": "o" * 100},
        {"size": [80, 100], "counts": "\u20ac"},
        {"size": [80, 100], "counts": "0P"},
    ],
)
def test_what_is_no_mask_is_named_with_its_place(tmp_path, mask):
    with pytest.raises(BadInput, match=r"isaid\.json: annotations\[1\]\.segmentation"):
        read(tmp_path, SQUARE, mask)


@pytest.mark.parametrize(
    ("file_name", "image"),
    [
        ("P0003.png", "P0003.png"),
        ("P0003_instance_id_RGB.png", "P0003.png"),
        ("val/P0003_instance_color_RGB.png", "val/P0003.png"),
        ("P0003_0_800_200_1000.png", "P0003_0_800_200_1000.png"),
    ],
)
def test_a_mask_picture_means_the_image_that_it_lies_over(tmp_path, file_name, image):
    assert read(tmp_path, SQUARE, file_name=file_name).images[0].image == image


@pytest.mark.parametrize(
    ("given_document", "expected"),
    [
        (document(SQUARE), True),
        (document(SQUARE, file_name="P0003_0_800_200_1000.png"), True),
        (document(SQUARE, file_name="001.jpg", ins_file_name="x.png"), True),
        (document(SQUARE, file_name="001.jpg"), False),
        (document(SQUARE, []), False),
        (document(), False),
        ({"images": [1], "annotations": [2]}, False),
        ({}, False),
    ],
)
def test_the_format_is_known_by_its_names_and_masks(given_document, expected):
    assert isaid.written_as_isaid(given_document) == expected


@pytest.mark.parametrize("folder", ["isaid_sample", "dota_sample"])
def test_real_masks_take_up_their_boxes(real_data, folder):
    path = real_data / folder / "annotations.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert isaid.written_as_isaid(coco.load(path))
    for by_mask, by_box in zip(isaid.read(path).images, coco.read(path).images, strict=True):
        assert np.array_equal(by_mask.boxes_scene.xyxy, by_box.boxes_scene.xyxy)
