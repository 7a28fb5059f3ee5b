"""Against chance: a gap that is there is seen, one that is not covers 0, and two of those make the next round a drawn one."""

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.counterfactual import Gap, falls_back, gap_to_chance

CLEAR, OPEN = Gap(1.0, 0.2, 1.8, 30, 10), Gap(0.1, -0.4, 0.6, 30, 10)


def visits(generator, count, rate):
    """Corrections and seconds of tiles on which ``rate`` boxes are corrected on average."""
    corrections = generator.poisson(rate, count).astype(float)
    return corrections, 10 + 8 * corrections + generator.exponential(3, count)


def test_the_gap_is_the_difference_of_the_paces():
    corrections, seconds = np.array([3.0] * 5 + [1.0] * 5), np.array([30.0] * 5 + [20.0] * 5)
    gap = gap_to_chance(corrections, seconds, np.arange(10) >= 5)
    assert gap.mean == gap.low == gap.high == pytest.approx(6 - 3)
    assert (gap.chosen, gap.drawn) == (5, 5)


def test_a_gap_that_is_there_is_seen_and_one_that_is_not_is_not():
    seen = {True: 0, False: 0}
    for seed in range(60):
        generator = np.random.default_rng(seed)
        by_chance = np.arange(100) >= 60
        for better in (True, False):
            chosen, drawn = visits(generator, 60, 3.0 if better else 1.0), visits(generator, 40, 1.0)
            gap = gap_to_chance(*(np.concatenate(pair) for pair in zip(chosen, drawn, strict=True)), by_chance, seed)
            seen[better] += not gap.covers_zero
    assert seen[True] >= 57
    assert seen[False] <= 6


def test_too_few_tiles_say_nothing_and_wrong_ones_are_refused():
    few = np.arange(9) >= 5
    assert gap_to_chance(np.ones(9), np.ones(9), few) is None
    with pytest.raises(BadInput, match="seconds above 0"):
        gap_to_chance(np.ones(9), np.zeros(9), few)
    with pytest.raises(BadInput, match="8 seconds"):
        gap_to_chance(np.ones(9), np.ones(8), few)


@pytest.mark.parametrize(
    ("gaps", "fell_back", "expected"),
    [
        ([], [], False),
        ([OPEN], [False], False),
        ([OPEN, OPEN], [False, False], True),
        ([OPEN, CLEAR], [False, False], False),
        ([CLEAR, OPEN, OPEN], [False] * 3, True),
        ([OPEN, None, OPEN], [False] * 3, True),
        ([OPEN, OPEN, None], [False, False, True], False),
        ([OPEN, OPEN, None, OPEN], [False, False, True, False], True),
        ([OPEN, OPEN, None, None], [False, False, True, False], False),
        ([OPEN, OPEN, None, CLEAR], [False, False, True, False], False),
    ],
)
def test_two_rounds_without_a_gap_make_the_next_one_drawn(gaps, fell_back, expected):
    assert falls_back(gaps, fell_back) is expected
