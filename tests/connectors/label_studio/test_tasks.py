"""Boxes ↔ Label Studio's rectangles, classes ↔ its configuration: nothing is lost without a word."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.label_studio.tasks import as_prediction, as_task, config_differences, digest_of, is_ours, label_config, read_boxes
from engine.annotation_server import MOST_BOXES, Cursor, Suggestion, TileTask
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet

CLASSES = LabelSet.of(["car", "ship"])
WIDTH, HEIGHT = 320, 200


def task(shown: Suggestion | None, width: int = WIDTH, height: int = HEIGHT) -> TileTask:
    return TileTask("ws:1", 1, "ab" * 32, "http://127.0.0.1:1/1.png", width, height, "a.tif", 0, 0, "why", shown)


def region(x: Any, y: Any, width: Any, height: Any, **more: Any) -> dict[str, Any]:
    """A rectangle in pixels of the tile."""
    value = {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "width": width / WIDTH * 100, "height": height / HEIGHT * 100, "rotation": 0}
    return raw({**value, "rectanglelabels": ["car"], **more})


def raw(value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "rectanglelabels", "value": value, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, **more}


@st.composite
def tiles_with_boxes(draw: st.DrawFn) -> tuple[int, int, Boxes]:
    width, height = draw(st.integers(2, 4096)), draw(st.integers(2, 4096))
    rows, labels = [], []
    for _ in range(draw(st.integers(0, 8))):
        x1, y1 = draw(st.floats(0, width - 1.01)), draw(st.floats(0, height - 1.01))
        rows.append([x1, y1, draw(st.floats(x1 + 1.005, width)), draw(st.floats(y1 + 1.005, height))])
        labels.append(draw(st.integers(0, 1)))
    return width, height, Boxes(np.array(rows).reshape(-1, 4), np.array(labels, dtype=np.int64))


@pytest.mark.guarantee("G24")
@given(tiles_with_boxes())
def test_boxes_survive_the_way_there_and_back(made):
    width, height, boxes = made
    prediction = as_prediction(task(Suggestion(boxes, "m", 0.5), width, height), CLASSES)
    if prediction is None:
        assert len(boxes) == 0
        return
    back = read_boxes(prediction["result"], width, height, CLASSES)
    assert np.abs(back.boxes_tile.xyxy - boxes.xyxy).max() < 0.01
    assert back.boxes_tile.labels.tolist() == boxes.labels.tolist()
    assert back.notes == back.rejected == back.conflicts == ()


NUMBERS = st.one_of(st.floats(-200, 300), st.floats(), st.integers(), st.sampled_from([None, "12", True, 1e308, -0.0, float("nan")]))


@pytest.mark.guarantee("G24")
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_whatever_the_numbers_are_a_box_lies_on_the_tile_or_is_rejected_in_words(x, y, width, height, rotation):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": ["ship"]}
    drawn = read_boxes([raw(value)], WIDTH, HEIGHT, CLASSES)
    assert len(drawn.boxes_tile) + len(drawn.rejected) == 1
    for x1, y1, x2, y2 in drawn.boxes_tile.xyxy.tolist():
        assert 0 <= x1 <= x2 - 1
        assert x2 <= WIDTH
        assert 0 <= y1 <= y2 - 1
        assert y2 <= HEIGHT


@pytest.mark.guarantee("G24")
@pytest.mark.parametrize(
    ("drawn", "box", "word"),
    [
        (region(10, 10, 20, 30), [10, 10, 30, 40], None),
        (region(-5, 10, 20, 30), [0, 10, 15, 40], "sticks out"),
        (region(310, 190, 20, 30), [310, 190, 320, 200], "sticks out"),
        (region(-0.005, 10, 20, 30), [0, 10, 19.995, 40], None),
        (region(-19.5, 10, 20, 30), None, "less than a pixel"),
        (region(400, 10, 20, 30), None, "less than a pixel"),
        (region(10, 10, 0, 30), None, "its sides are 0 × 30"),
        (region(10, 10, 20, -3), None, "its sides are 20 × -3"),
        (region(10, 10, 0.4, 30), None, "less than a pixel"),
        (region(float("nan"), 10, 20, 30), None, "its numbers are"),
        (raw({"x": 1, "y": 1, "width": "wide", "height": 9, "rectanglelabels": ["car"]}), None, "its numbers are"),
        (raw({"x": 1, "y": 1, "width": 9, "rectanglelabels": ["car"]}), None, "its numbers are"),
        (region(100, 100, 20, 10, rotation=90), [90, 100, 100, 120], "turned by 90 degrees around (100.00, 100.00), 20.00 × 10.00"),
        (region(100, 100, 20, 10, rotation=360), [100, 100, 120, 110], None),
        (region(100, 100, 20, 10, rotation=None), [100, 100, 120, 110], None),
        ({**region(10, 10, 20, 30), "original_width": 640}, None, "drawn on a picture of 640 × 200 pixels"),
        ({**region(10, 10, 20, 30), "image_rotation": 90}, None, "turned by 90 degrees"),
        ({**region(10, 10, 20, 30), "type": "polygonlabels"}, None, "'polygonlabels', not a rectangle"),
        (region(10, 10, 20, 30, rectanglelabels=[]), None, "the classes []"),
        (region(10, 10, 20, 30, rectanglelabels=["car", "ship"]), None, "instead of one"),
        ("nonsense", None, "not written as a region"),
        (raw(None), None, "not written as a region"),
    ],
)
def test_each_kind_of_rectangle(drawn, box, word):
    read = read_boxes([drawn], WIDTH, HEIGHT, CLASSES)
    said = read.notes + read.rejected
    assert len(said) == (word is not None)
    assert word is None or word in said[0]
    if box is None:
        assert len(read.rejected) == 1
        assert len(read.boxes_tile) == 0
    else:
        assert read.boxes_tile.xyxy[0] == pytest.approx(box, abs=1e-9)
        assert read.rejected == ()


def test_a_rectangle_turned_by_45_degrees_becomes_its_envelope():
    [box] = read_boxes([region(100, 50, 20, 20, rotation=45)], WIDTH, HEIGHT, CLASSES).boxes_tile.xyxy
    half = 20 / math.sqrt(2)
    assert box == pytest.approx([100 - half, 50, 100 + half, 50 + 2 * half])


@pytest.mark.guarantee("G23")
def test_an_unknown_class_is_a_conflict_with_its_place_and_never_guessed():
    drawn = read_boxes([region(10, 10, 20, 30, rectanglelabels=["Car"]), region(1, 1, 9, 9)], WIDTH, HEIGHT, CLASSES)
    assert len(drawn.boxes_tile) == 1
    [conflict] = drawn.conflicts
    assert "region 1" in conflict
    assert "'Car'" in conflict
    assert "[10.00, 10.00, 30.00, 40.00]" in conflict


@pytest.mark.guarantee("G23")
def test_a_box_of_another_tool_is_a_conflict_even_of_a_class_of_ours():
    drawn = read_boxes(
        [{**region(10, 10, 20, 30), "from_name": "more"}, {**region(1, 1, 9, 9), "from_name": "label"}], WIDTH, HEIGHT, CLASSES
    )
    assert len(drawn.boxes_tile) == 1
    assert drawn.conflicts == ("region 1: it was drawn with the tool 'more', not with 'label'",)


def test_what_is_no_region_is_noted():
    drawn = read_boxes([{"type": "choices", "value": {"choices": ["night"]}}, region(1, 1, 9, 9)], WIDTH, HEIGHT, CLASSES)
    assert len(drawn.boxes_tile) == 1
    assert drawn.notes == ("region 1: a 'choices' was left out",)


@pytest.mark.guarantee("G24")
def test_an_answer_of_a_hundred_thousand_boxes_is_held_back_at_once():
    drawn = read_boxes([region(1, 1, 9, 9)] * 100_000, WIDTH, HEIGHT, CLASSES)
    assert len(drawn.boxes_tile) == 0
    assert f"at most {MOST_BOXES}" in drawn.rejected[0]


AWKWARD = ['a "quoted" <b>name</b> & more', "größe", "x" * 300, "new\nline", "tab\tbed", "日本"]


def test_a_configuration_matches_its_classes_however_awkward():
    classes = LabelSet.of(AWKWARD)
    assert config_differences(classes, label_config(classes)) == []


@pytest.mark.parametrize("name", ["$price", "bell\x07", "\ud800"])
def test_a_name_that_label_studio_cannot_have_is_refused(name):
    with pytest.raises(BadInput, match="the class name"):
        label_config(LabelSet.of([name]))


CONFIG = label_config(CLASSES)


def beside(tag: str) -> str:
    """The configuration with something more in it."""
    return CONFIG.replace("</View>", f"{tag}</View>")


@pytest.mark.guarantee("G23")
@pytest.mark.parametrize(
    ("config", "differences"),
    [
        (CONFIG, []),
        (beside('<Header value="Draw every car"/><Style>.x {}</Style>'), []),
        (beside('<Choices name="light" toName="image"><Choice value="night"/></Choices>'), []),
        (beside('<PolygonLabels name="outline" toName="image"/>'), ["it has other tools to draw with: PolygonLabels"]),
        (
            beside('<Brush name="b" toName="image"/><Rectangle name="r" toName="image"/>'),
            ["it has other tools to draw with: Brush, Rectangle"],
        ),
        (
            beside('<RectangleLabels name="more" toName="image"><Label value="car"/></RectangleLabels>'),
            ["it has other tools to draw with: RectangleLabels"],
        ),
        (CONFIG.replace('toName="image"', 'toName="picture"'), ['it has no <RectangleLabels name="label" toName="image">']),
        (CONFIG.replace('name="image"', 'name="picture"'), ['it has no <Image name="image" value="$image">']),
        (CONFIG.replace("<Image ", "<Text "), ['it has no <Image name="image" value="$image">']),
        (CONFIG.replace('<Label value="car" />', '<Label value="car" background="red" hotkey="1"/>'), []),
        (CONFIG.replace('<Label value="car" /><Label value="ship" />', '<Label value="ship"/><Label value="car"/>'), []),
        (CONFIG.replace('value="ship"', 'value="boat"'), ["it lacks the classes ['ship']", "it has the classes ['boat'] in addition"]),
        (CONFIG.replace('<Label value="ship" />', ""), ["it lacks the classes ['ship']"]),
        (
            CONFIG.replace('<Label value="ship" />', '<Label value="ship" /><Label value="bus"/>'),
            ["it has the classes ['bus'] in addition"],
        ),
        (CONFIG.replace('value="ship"', 'value="ship" alias="s"'), ["it gives the classes ['ship'] another name by alias"]),
        (CONFIG.replace('name="label"', 'name="box"'), ['it has no <RectangleLabels name="label" toName="image">']),
        (CONFIG.replace("RectangleLabels", "PolygonLabels"), ['it has no <RectangleLabels name="label" toName="image">']),
        (CONFIG.replace('value="$image"', 'value="$url"'), ['it has no <Image name="image" value="$image">']),
        ("<View>", ["it is not readable as XML"]),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', ["it is not readable as XML"]),
        ("", ["it is not readable as XML"]),
    ],
)
def test_each_difference_of_a_configuration_is_named(config, differences):
    assert config_differences(CLASSES, config) == differences


def test_only_predictions_of_ours_are_ours():
    shown = Suggestion(Boxes(np.array([[1, 1, 9, 9]]), np.array([0])), "m", 0.5)
    ours = as_task(task(shown), CLASSES)["predictions"][0]
    assert is_ours(ours)
    theirs = region(1, 1, 9, 9)
    assert not any(map(is_ours, [{"result": []}, {"result": None}, {"result": [theirs]}, {"result": [*ours["result"], theirs]}]))


def test_a_task_without_a_suggestion_has_no_prediction():
    assert as_task(task(None), CLASSES)["predictions"] == []
    assert as_prediction(task(Suggestion(Boxes.empty(), "m", None)), CLASSES) is None


def test_a_digest_changes_with_what_is_taken_and_with_nothing_else():
    said = {"id": 1, "result": [region(1, 1, 9, 9)], "lead_time": 3.0, "updated_at": "now"}
    assert digest_of("submitted", said) == digest_of("submitted", {**said, "updated_at": "later"})
    others = [{**said, "id": 2}, {**said, "result": []}, {**said, "lead_time": 4.0}]
    assert len({digest_of("submitted", said), digest_of("skipped", said), *(digest_of("submitted", each) for each in others)}) == 5


def test_a_cursor_goes_back_by_the_servers_clock_over_a_change_of_day():
    assert Cursor("2026-03-29T00:00:10.000123+00:00", 5).back(60) == Cursor("2026-03-28T23:59:10.000123+00:00")
    assert Cursor().back(60) == Cursor()
