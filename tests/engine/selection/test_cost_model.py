"""Prices from visits, a factor from foreseen tiles: put together, or left alone where nothing may or can be learned."""

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig, Visits
from engine.selection.cost_model import ForeseenTiles, learn_costs
from engine.selection.cost_spread import UNMEASURED

PRIORS = Prices()
TILES = 60


def worked(*, drawn=4.0, slower=2.0):
    """Three rounds of tiles on which so many boxes were drawn, at a multiple of the priors."""
    nothing = np.zeros(TILES)
    return Visits(slower * PRIORS.seconds(nothing, nothing, drawn, nothing), nothing, nothing, np.full(TILES, drawn), nothing)


def foreseen(*, missed):
    nothing = np.zeros(TILES)
    return ForeseenTiles(nothing, nothing, np.full(TILES, missed), np.arange(TILES) // 20, np.arange(TILES))


def test_slow_annotators_change_the_prices_and_wrong_counts_the_factor():
    model = learn_costs(worked(), foreseen(missed=2.0), PRIORS, CostFitConfig())
    assert model.fitted.visits == TILES
    assert model.fitted.prices.draw == pytest.approx(2 * PRIORS.draw, rel=0.1)
    assert 1.3 < model.spread.factor < 1.9
    assert model.prices.draw == pytest.approx(model.fitted.prices.draw * model.spread.factor)
    expected = model.prices.seconds(0, 0, 2.0, 0)
    assert expected == pytest.approx(worked().seconds[0], rel=0.2)


def test_without_foreseen_tiles_the_prices_are_learned_alone():
    model = learn_costs(worked(), ForeseenTiles.none(), PRIORS, CostFitConfig())
    assert (model.prices, model.spread) == (model.fitted.prices, UNMEASURED)
    assert model.fitted.visits == TILES


@pytest.mark.parametrize("config", [CostFitConfig(measured=False), CostFitConfig(minimum_visits=TILES + 1)])
def test_where_nothing_is_to_be_learned_the_priors_stay(config):
    model = learn_costs(worked(), foreseen(missed=1.0), PRIORS, config)
    assert (model.prices, model.fitted.visits, model.spread) == (PRIORS, 0, UNMEASURED)


def test_idle_visits_do_not_pull_the_factor():
    visits = worked(slower=1.0)
    visits.seconds[::20] += 3000
    assert learn_costs(visits, foreseen(missed=4.0), PRIORS, CostFitConfig()).spread.factor == pytest.approx(1, abs=0.02)


def test_tiles_with_lengths_that_differ_are_refused():
    with pytest.raises(BadInput, match="'missed': 2"):
        ForeseenTiles(np.zeros(3), np.zeros(3), np.zeros(2), np.zeros(3, dtype=int), np.zeros(3, dtype=int))
