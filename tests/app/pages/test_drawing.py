"""Boxes to the drawing surface and back."""

from __future__ import annotations

import numpy as np
import pytest

from app.pages.drawing import boxes_drawn, corners, to_draw, zoom_of
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet
from engine.records import Window

NAMES = LabelSet.of(["car", "ship"])
PIXELS = np.zeros((40, 50, 3), dtype=np.uint8)


def as_the_browser_sends(update, scale):
    """The surface's value after the browser has scaled the picture by ``scale``."""
    boxes = [
        {**box, **{side: box[side] * scale for side in ("xmin", "ymin", "xmax", "ymax")}, "scaleFactor": scale}
        for box in update["value"]["boxes"]
    ]
    return {"boxes": boxes, "orientation": 0}


@pytest.mark.parametrize("scale", [1, 0.731, 1.7])
@pytest.mark.parametrize("zoom", [1, 3])
def test_boxes_come_back_as_they_were_whatever_the_scale(zoom, scale):
    boxes = Boxes(np.array([[1.25, 2.5, 30.125, 20.0], [0, 0, 50, 40]]), np.array([1, 0]))
    suggested = Boxes(np.array([[3.3, 4.4, 9.9, 8.8]]), np.array([1]), np.array([0.7]))
    update = to_draw(PIXELS, boxes, NAMES, zoom=zoom, unsure=suggested)
    assert update["value"]["image"].size == (50 * zoom, 40 * zoom)
    back = boxes_drawn(as_the_browser_sends(update, scale), NAMES, zoom=zoom)
    assert np.allclose(back.xyxy, np.concatenate([boxes.xyxy, suggested.xyxy]), atol=1e-9)
    assert back.labels.tolist() == [1, 0, 1]


def test_classes_to_choose_from_come_with_the_picture():
    assert to_draw(PIXELS, Boxes.empty(), NAMES)["label_list"] == ["car", "ship"]
    assert to_draw(PIXELS, Boxes.empty(), None)["label_list"] == []


def test_a_new_box_gets_the_class_that_is_set():
    value = {"boxes": [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9, "label": ""}]}
    assert boxes_drawn(value, NAMES, new="ship").labels.tolist() == [1]
    with pytest.raises(BadInput, match="box 1 has the class 'none'"):
        boxes_drawn(value, NAMES)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"boxes": [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9, "label": "plane"}]}, "'plane'"),
        ({"boxes": [{"xmin": 1, "ymin": 1, "label": "car"}]}, "cannot be read"),
        ({"boxes": [{"xmin": "a", "ymin": 1, "xmax": 9, "ymax": 9, "label": "car"}]}, "cannot be read"),
        ({"boxes": [], "orientation": 1}, "turned"),
        ({"boxes": [{"xmin": 9, "ymin": 1, "xmax": 1, "ymax": 9, "label": "car"}]}, "empty or inverted"),
        ({"boxes": [{"xmin": float("nan"), "ymin": 1, "xmax": 1, "ymax": 9, "label": "car"}]}, "finite"),
    ],
)
def test_what_cannot_be_read_is_refused(value, found):
    with pytest.raises(BadInput, match=found):
        boxes_drawn(value, NAMES)


def test_nothing_drawn_is_nothing():
    assert len(boxes_drawn(None, NAMES)) == 0
    assert corners({"boxes": []}).shape == (0, 4)


@pytest.mark.parametrize(("side", "zoom"), [(32, 28), (320, 2), (640, 1), (4000, 1)])
def test_small_tiles_are_enlarged_by_a_whole_factor(side, zoom):
    assert zoom_of(Window(0, 0, side, side // 2)) == zoom
