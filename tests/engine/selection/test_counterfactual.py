"""Against chance: a gap that is there is seen, one that is not covers 0, and two of those make the next round a drawn one."""

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.counterfactual import Gap, falls_back, gap_to_chance

CLEAR, OPEN = Gap(2.0, 1.2, 3.4, 90, 20), Gap(1.1, 0.6, 1.8, 90, 20)


def visits(generator, count, rate):
    """Corrections and seconds of tiles on which ``rate`` boxes are corrected on average."""
    corrections = generator.poisson(rate, count).astype(float)
    return corrections, 10 + 8 * corrections + generator.exponential(3, count)


def test_the_gap_is_the_ratio_of_the_paces():
    corrections, seconds = np.repeat([3.0, 1.0], 20), np.repeat([30.0, 20.0], 20)
    gap = gap_to_chance(corrections, seconds, np.arange(40) >= 20)
    assert gap.ratio == pytest.approx(2, rel=0.03)
    assert 1 < gap.low <= gap.ratio <= gap.high
    assert (gap.chosen, gap.drawn) == (20, 20)
    turned = gap_to_chance(corrections, seconds, np.arange(40) < 20)
    assert turned.high < 1
    assert turned.covers_chance


def gap_of(chosen, drawn, seed):
    """The gap of visits to chosen tiles and to drawn ones."""
    by_chance = np.arange(len(chosen[0]) + len(drawn[0])) >= len(chosen[0])
    return gap_to_chance(*(np.concatenate(pair) for pair in zip(chosen, drawn, strict=True)), by_chance, seed)


def test_a_gap_that_is_there_is_seen():
    generator = np.random.default_rng(0)
    seen = sum(not gap_of(visits(generator, 90, 3.0), visits(generator, 30, 0.5), seed).covers_chance for seed in range(40))
    assert seen >= 38


def test_where_choosing_makes_no_difference_the_gap_seldom_says_that_it_does():
    """One tile in seven teaches something, and then much: a percentile bootstrap finds choosing better in every sixth of these."""

    def skewed(generator, count):
        corrections = (generator.random(count) < 0.15) * generator.geometric(0.25, count).astype(float)
        return corrections, (8 + 12 * corrections) * generator.lognormal(0, 0.35, count)

    generator, repeats = np.random.default_rng(0), 300
    found = [gap_of(skewed(generator, 180), skewed(generator, 20), seed) for seed in range(repeats)]
    assert sum(not gap.covers_chance for gap in found) <= 0.04 * repeats
    assert sum(gap.high < 1 for gap in found) <= 0.05 * repeats


@pytest.mark.parametrize(("chosen", "drawn"), [(0.0, 0.0), (2.0, 2.0)])
def test_where_all_tiles_teach_alike_choosing_is_as_good_as_chance(chosen, drawn):
    gap = gap_to_chance(np.repeat([chosen, drawn], 20), np.full(40, 20.0), np.arange(40) >= 20)
    assert gap.ratio == gap.low == gap.high == 1


def test_a_group_that_was_taught_nothing_has_a_pace():
    corrections = np.r_[np.full(30, 4.0), np.zeros(20)]
    gap = gap_to_chance(corrections, np.full(50, 20.0), np.arange(50) >= 30)
    assert gap.low > 1
    assert np.isfinite(gap.high)


def test_too_few_tiles_say_nothing_and_wrong_ones_are_refused():
    few = np.arange(60) >= 41
    assert gap_to_chance(np.ones(60), np.ones(60), few) is None
    with pytest.raises(BadInput, match="seconds above 0"):
        gap_to_chance(np.ones(60), np.zeros(60), few)
    with pytest.raises(BadInput, match="8 seconds"):
        gap_to_chance(np.ones(60), np.ones(8), few)


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
