"""The pace of annotators: what was left lying is told by themselves, and fewer boxes take less, but never less than opening a tile."""

import numpy as np
import pytest

from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig
from engine.selection.forecast.pace import Pace, left_lying

PRICES, CONFIG = Prices(open=4, draw=10), CostFitConfig()


@pytest.mark.parametrize(
    ("seconds", "lying"),
    [
        ([44.0, 44.0, 900.0], [False, False, True]),
        ([440.0, 440.0, 900.0], [False, False, False]),
        ([440.0, 440.0, 9000.0], [False, False, True]),
        ([5400.0], [True]),
        ([50.0], [False]),
        ([], []),
    ],
)
def test_a_tile_that_took_far_longer_than_the_others_was_left_lying(seconds: list[float], lying: list[bool]) -> None:
    boxes = np.full(len(seconds), 4.0)
    assert left_lying(boxes, np.array(seconds), PRICES, CONFIG).tolist() == lying


def test_the_pace_changes_with_the_boxes_and_opening_does_not() -> None:
    pace = Pace(seconds_per_tile=44.0, boxes_per_tile=4.0)
    assert [pace.seconds_at(boxes, 4.0) for boxes in (0.0, 1.0, 4.0, 8.0)] == [4.0, 14.0, 44.0, 84.0]
    assert pace.seconds_at(1.0, 50.0) == 44.0
