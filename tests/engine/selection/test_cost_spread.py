"""What is left between expected and worked seconds: the factor for the next batch, and how far tiles and batches scatter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BadInput
from engine.selection.cost_spread import UNMEASURED, CostSpread, batch_quantiles, measure_spread, tile_quantiles

EXACT = CostSpread(1.0, 0.0, 0.0, 0, 0)


def rounds_of(factors, *, tiles=40, spread=0.5, seed=0):
    """Rounds whose tiles take these factors times what is expected, on average, each tile for itself by a lognormal."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(len(factors)), tiles)
    expected = generator.uniform(20, 120, len(numbers))
    noise = generator.lognormal(-(spread**2) / 2, spread, len(numbers))
    return expected, expected * np.asarray(factors)[numbers] * noise, numbers


def test_nothing_measured_is_the_prior():
    nothing = np.zeros(0)
    assert measure_spread(nothing, nothing, nothing.astype(int)) == UNMEASURED
    assert UNMEASURED.factor == 1


def test_rounds_that_take_longer_by_a_factor_say_so_the_surer_the_more():
    once, often = (measure_spread(*rounds_of([1.5] * count, tiles=400)) for count in (1, 8))
    assert 1.1 < once.factor < often.factor == pytest.approx(1.5, rel=0.08)
    assert often.round_spread < once.round_spread < UNMEASURED.round_spread
    assert (often.tiles, often.rounds) == (3200, 8)


def test_the_last_rounds_count_most():
    falling, rising = (measure_spread(*rounds_of(factors, spread=0.1)).factor for factors in ([2, 1.5, 1], [1, 1.5, 2]))
    assert falling < 1.4
    assert rising > 1.5


def test_rounds_that_scatter_widen_what_a_round_may_take():
    steady, wild = (measure_spread(*rounds_of(factors, spread=0.1)).round_spread for factors in ([1] * 8, [0.4, 2.5] * 4))
    assert wild > 1.5 * steady


def test_the_spread_of_tiles_is_that_of_many_and_the_priors_with_few():
    assert measure_spread(*rounds_of([1] * 20, spread=0.8)).tile_spread == pytest.approx(0.8, rel=0.1)
    assert measure_spread(*rounds_of([1], tiles=3, spread=0.01)).tile_spread == pytest.approx(UNMEASURED.tile_spread, rel=0.2)


@pytest.mark.parametrize("seconds", [np.nan, np.inf, 0.0, -1.0])
def test_tiles_without_seconds_say_nothing(seconds):
    expected, worked, numbers = rounds_of([1.2, 1.3])
    more = np.append(expected, 30.0), np.append(worked, seconds), np.append(numbers, 7)
    assert measure_spread(*more) == measure_spread(expected, worked, numbers)


@pytest.mark.parametrize(
    ("expected", "worked", "numbers", "found"),
    [
        ([1.0, 2.0], [1.0], [0, 0], "2 expected seconds, 1 worked"),
        ([0.0], [1.0], [0], "not above 0"),
        ([np.nan], [1.0], [0], "not above 0"),
    ],
)
def test_what_cannot_be_is_refused(expected, worked, numbers, found):
    with pytest.raises(BadInput, match=found):
        measure_spread(np.array(expected), np.array(worked), np.array(numbers))


def test_without_spread_a_batch_takes_what_is_expected():
    batch = batch_quantiles(np.array([10.0, 20.0, 30.0]), EXACT)
    assert (batch.p50, batch.p90) == pytest.approx((60, 60))
    assert batch_quantiles(np.zeros(0), UNMEASURED) == batch_quantiles(np.zeros(3), UNMEASURED)


def test_quantiles_of_a_batch_are_those_of_many_simulated_ones():
    expected = np.random.default_rng(0).uniform(10, 90, 30)
    spread = CostSpread(1.0, 0.7, 0.25, 0, 0)
    generator = np.random.default_rng(1)
    tiles = expected * generator.lognormal(-(0.7**2) / 2, 0.7, (20_000, 30))
    simulated = tiles.sum(1) * generator.lognormal(0, 0.25, 20_000)
    batch = batch_quantiles(expected, spread)
    assert (batch.p50, batch.p90) == pytest.approx(tuple(np.quantile(simulated, [0.5, 0.9])), rel=0.02)
    p50, p90 = tile_quantiles(expected[:1], spread)
    one = tiles[:, 0] * generator.lognormal(0, 0.25, 20_000)
    assert (p50[0], p90[0]) == pytest.approx(tuple(np.quantile(one, [0.5, 0.9])), rel=0.03)


def test_a_batch_is_surer_than_its_tiles():
    expected = np.full(40, 50.0)
    batch, (p50, p90) = batch_quantiles(expected, UNMEASURED), tile_quantiles(expected, UNMEASURED)
    assert 1 < batch.p90 / batch.p50 < p90[0] / p50[0]


seconds = st.floats(min_value=0.5, max_value=5000)
tiles = st.lists(st.tuples(seconds, seconds, st.integers(0, 4)), min_size=1, max_size=40)


@settings(deadline=None)
@given(tiles, st.randoms(use_true_random=False))
def test_any_order_gives_the_very_same_spread(rows, chance):
    mixed = chance.sample(rows, len(rows))
    one, other = (
        measure_spread(np.array([row[0] for row in each]), np.array([row[1] for row in each]), np.array([row[2] for row in each]))
        for each in (rows, mixed)
    )
    assert one == other


@given(st.lists(seconds, min_size=1, max_size=40), st.floats(0, 1.5), st.floats(0, 1.5))
def test_p50_is_never_above_p90_nor_above_the_mean(expected, tile_spread, round_spread):
    batch = batch_quantiles(np.array(expected), CostSpread(1.0, tile_spread, round_spread, 0, 0))
    assert 0 < batch.p50 <= batch.p90
    assert batch.p50 <= math.fsum(expected) * (1 + 1e-12)
