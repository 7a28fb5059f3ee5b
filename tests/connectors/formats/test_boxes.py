import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.boxes import BoxCollector, hull


@pytest.mark.parametrize(
    ("box", "taken"),
    [
        ((1, 2, 3, 4), [1, 2, 3, 4]),
        ((0, 0, 100, 80), [0, 0, 100, 80]),
        ((-5, -5, 10, 10), [0, 0, 10, 10]),
        ((90, 70, 200, 200), [90, 70, 100, 80]),
        ((99, 10, 120, 20), [99, 10, 100, 20]),
        ((10.2, 10.2, 10.4, 10.4), [10.2, 10.2, 10.4, 10.4]),
        ((99.5, 10, 100.005, 20), [99.5, 10, 100, 20]),
    ],
)
def test_a_box_is_clipped_to_its_image(box, taken):
    collector = BoxCollector("a", 100, 80)
    collector.add(box, 2)
    assert collector.image_labels().boxes_scene.xyxy.tolist() == [taken]
    assert collector.image_labels().boxes_scene.labels.tolist() == [2]
    assert collector.unusable == []


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5, 5, 5, 10), "no area"),
        ((5, 5, 10, 5), "no area"),
        ((10, 5, 5, 10), "no area"),
        ((math.nan, 5, 10, 10), "not a finite number"),
        ((0, 0, math.inf, 10), "not a finite number"),
        ((200, 5, 210, 10), "outside the image of 100 x 80"),
        ((-10, 5, 0, 10), "outside the image"),
        ((99.5, 10, 120, 20), "outside the image"),
        ((99.5, 10, 100.02, 20), "outside the image"),
        ((100, 10, 100.005, 20), "outside the image"),
    ],
)
def test_a_box_that_is_none_is_listed_with_the_reason(box, reason):
    collector = BoxCollector("a.png", 100, 80)
    collector.add(box, 0)
    assert len(collector.image_labels().boxes_scene) == 0
    assert [unusable.image for unusable in collector.unusable] == ["a.png"]
    assert reason in collector.unusable[0].reason


def test_an_image_of_unknown_size_clips_at_zero_alone():
    collector = BoxCollector("a", 0, 0)
    collector.add((-5, 5, 5000, 6000), 0)
    assert collector.image_labels().boxes_scene.xyxy.tolist() == [[0, 5, 5000, 6000]]


@given(boxes=st.lists(st.tuples(*[st.floats(width=32) for _ in range(4)]), max_size=20))
def test_every_box_is_either_inside_or_listed(boxes):
    collector = BoxCollector("a", 100, 80)
    for box in boxes:
        collector.add(box, 0)
    kept = collector.image_labels().boxes_scene.xyxy
    assert len(kept) + len(collector.unusable) == len(boxes)
    assert np.all(kept >= 0)
    assert np.all(kept[:, [0, 2]] <= 100)
    assert np.all(kept[:, [1, 3]] <= 80)


def test_the_place_of_a_box_in_its_file_goes_before_the_reason():
    collector = BoxCollector("a.png", 100, 80)
    collector.add((5, 5, 5, 10), 0, where="line 7")
    assert collector.unusable[0].reason == "line 7: it has no area"


def test_the_hull_of_points_is_their_upright_box_and_none_where_a_point_is_none():
    assert hull([3, 1, 2], [5, 9, 7]) == (1, 5, 3, 9)
    assert all(math.isnan(side) for side in hull([1, 2, math.nan], [1, 2, 3]))
    assert all(math.isnan(side) for side in hull([1, 2, 3], [1, -math.inf, 3]))
