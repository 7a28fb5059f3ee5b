"""The map of seconds: where tiles lie, how dear they are, and which round is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from engine.errors import UsageError
from engine.evaluation.spending_map import BORDER, TilesOnMap, draw_spending, full_seconds

SCENE = np.full((20, 30, 3), 200, dtype=np.uint8)


def tiles(*rows):
    """(x1, y1, x2, y2, seconds, spent, looked at) each."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return TilesOnMap(table[:, :4], table[:, 4], table[:, 5] > 0, table[:, 6] > 0)


def test_ground_without_a_tile_is_grey():
    drawn = draw_spending(
        np.dstack([SCENE[..., 0], SCENE[..., 1] // 2, SCENE[..., 2] // 4]), tiles((0, 0, 10, 10, 5, 1, 1)), full_seconds=10
    )
    assert drawn.shape == SCENE.shape
    assert len(np.unique(drawn[15, 15])) == 1
    assert len(np.unique(drawn[5, 5])) > 1


def test_spent_is_red_planned_is_blue_and_dearer_is_darker():
    drawn = draw_spending(SCENE, tiles((0, 0, 10, 20, 1, 1, 1), (10, 0, 20, 20, 10, 1, 1), (20, 0, 30, 20, 10, 0, 1)), full_seconds=10)
    cheap, dear, planned = (drawn[10, column].astype(int) for column in (5, 15, 25))
    assert dear.sum() < cheap.sum()
    assert dear[0] > dear[2]
    assert planned[2] > planned[0]


def test_the_round_that_is_looked_at_is_clear_and_has_a_border():
    drawn = draw_spending(SCENE, tiles((0, 0, 10, 10, 10, 1, 1), (10, 0, 20, 10, 10, 1, 0)), full_seconds=10)
    clear, pale = drawn[5, 5].astype(int), drawn[5, 15].astype(int)
    assert np.ptp(clear) > np.ptp(pale) > 0
    assert tuple(drawn[0, 5]) == BORDER
    assert tuple(drawn[0, 15]) != BORDER


def test_of_overlapping_tiles_the_dearer_is_seen_whatever_their_order():
    rows = [(0, 0, 20, 20, 2, 1, 1), (5, 5, 25, 20, 9, 1, 1)]
    one, other = (draw_spending(SCENE, tiles(*each), full_seconds=10) for each in (rows, rows[::-1]))
    assert np.array_equal(one, other)
    alone = draw_spending(SCENE, tiles(rows[1]), full_seconds=10)
    assert np.array_equal(one[10, 10], alone[10, 10])


@given(
    some.lists(
        some.tuples(
            some.floats(-10, 40),
            some.floats(-10, 40),
            some.floats(0, 40),
            some.floats(0, 40),
            some.floats(0, 1e6),
            some.booleans(),
            some.booleans(),
        ),
        max_size=5,
    )
)
def test_tiles_anywhere_and_of_any_size_can_be_drawn(rows):
    placed = [(x, y, x + width, y + height, *rest) for x, y, width, height, *rest in rows]
    assert draw_spending(SCENE, tiles(*placed), full_seconds=10).shape == SCENE.shape


def test_a_tile_below_a_pixel_is_seen():
    drawn = draw_spending(SCENE, tiles((29.7, 19.7, 29.9, 19.9, 10, 1, 0)), full_seconds=10)
    assert np.ptp(drawn[19, 29].astype(int)) > 0


def test_impossible_calls_are_refused():
    with pytest.raises(UsageError, match="full_seconds = 0"):
        draw_spending(SCENE, tiles(), full_seconds=0)
    with pytest.raises(UsageError, match="of shapes"):
        TilesOnMap(np.zeros((2, 4)), np.zeros(2), np.zeros(1, dtype=bool), np.zeros(2, dtype=bool))


def test_one_dear_tile_does_not_make_the_others_pale():
    assert full_seconds([10.0] * 99 + [9000.0]) == 10.0
    assert full_seconds([0.0]) == full_seconds([]) == 1.0
