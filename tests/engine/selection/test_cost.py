"""Costs: hand-computed seconds."""

import numpy as np
import pytest

from engine.selection.cost import CostConfig, Prices, estimate_costs, prior_costs

PRICES = Prices(open=5, verify=2, edit=6, draw=10, delete=1)
CONFIG = CostConfig(shown_score=0.3, sure_score=0.6, miss_rate=0.2, overlooked_objects=0.5, expected_objects=4)


def test_seconds_are_open_and_verify_and_edit_and_draw() -> None:
    tile = np.array([0, 0, 0, 2])
    scores = np.array([0.8, 0.4, 0.2, 0.6])
    costs = estimate_costs(tile, scores, 3, PRICES, CONFIG)
    assert costs.sure.tolist() == [1, 0, 1]
    assert costs.medium.tolist() == [1, 0, 0]
    assert costs.missed.tolist() == pytest.approx([0.2 + 1.4 * 0.25 + 0.5, 0.5, 0.6 * 0.25 + 0.5])
    assert costs.seconds.tolist() == pytest.approx([5 + 2 + 6 + 10.5, 5 + 5, 5 + 2 + 6.5])


def test_seconds_of_acts_are_summed_and_crowds_cost_by_the_square() -> None:
    prices = PRICES.model_copy(update={"density": 0.5})
    assert prices.seconds(1, 2, 3, 4) == 5 + 2 + 12 + 30 + 4 + 0.5 * 36
    assert PRICES.seconds(np.array([0, 1]), 0, np.array([0, 2]), 0).tolist() == [5, 27]
    assert prices.scaled(2).seconds(1, 2, 3, 4) == 2 * prices.seconds(1, 2, 3, 4)


def test_a_tile_where_nothing_is_seen_still_costs_looking() -> None:
    costs = estimate_costs(np.zeros(0, dtype=np.int64), np.zeros(0), 2, PRICES, CONFIG)
    assert costs.seconds.tolist() == [10, 10]


def test_without_a_detector_every_tile_costs_the_prior() -> None:
    assert prior_costs(3, PRICES, CONFIG).seconds.tolist() == [45, 45, 45]


def test_take_keeps_each_tile_together() -> None:
    costs = estimate_costs(np.array([1]), np.array([0.9]), 2, PRICES, CONFIG).take(np.array([1, 0]))
    assert costs.sure.tolist() == [1, 0]
    assert costs.seconds[1] == 10
