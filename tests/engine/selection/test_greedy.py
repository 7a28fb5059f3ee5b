"""Lazy greedy: equal to the plain one, near the brute-force optimum, never over the budget."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.selection.coverage import Directions, FacilityLocation
from engine.selection.greedy import Modular, best_of_both, lazy_greedy

NONE = np.zeros((0, 5))


def problem(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return Directions(generator.normal(size=(count, 5))).of(np.arange(count)), np.round(generator.uniform(1, 6, count), 1)


def coverage(points: np.ndarray) -> FacilityLocation:
    return FacilityLocation(points, NONE, points)


def plain_greedy(points: np.ndarray, costs: np.ndarray, budget: float, *, per_cost: bool, levels: np.ndarray | None = None) -> list[int]:
    objective, picked, spent = coverage(points), [], 0.0
    level_of = np.zeros(len(costs), dtype=int) if levels is None else levels
    while True:
        gains = objective.gains()
        best = [
            (level_of[index], -gains[index] / (costs[index] if per_cost else 1), index)
            for index in range(len(costs))
            if index not in picked and spent + costs[index] <= budget
        ]
        if not best:
            return picked
        picked.append(min(best)[2])
        spent += costs[picked[-1]]
        objective.add(picked[-1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25), st.floats(0.5, 60), st.booleans())
def test_lazy_equals_plain_greedy(seed: int, count: int, budget: float, per_cost: bool) -> None:
    points, costs = problem(seed, count)
    picks = lazy_greedy(coverage(points), costs, budget, per_cost=per_cost)
    assert list(picks.indices) == plain_greedy(points, costs, budget, per_cost=per_cost)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(1, 25))
def test_the_better_of_both_reaches_its_share_of_the_optimum(seed: int, count: int, budget: float) -> None:
    points, costs = problem(seed, count)
    similarity = np.maximum(points @ points.T, 0)
    affordable = [
        subset for size in range(count + 1) for subset in itertools.combinations(range(count), size) if costs[list(subset)].sum() <= budget
    ]
    optimum = max(similarity[list(subset)].max(axis=0).sum() if subset else 0.0 for subset in affordable)
    picks = best_of_both(lambda: coverage(points), costs, budget)
    assert picks.value >= (1 - 1 / math.e) / 2 * optimum - 1e-9
    assert picks.value == pytest.approx(similarity[list(picks.indices)].max(axis=0).sum() if picks.indices else 0)
    assert picks.cost == pytest.approx(costs[list(picks.indices)].sum())
    assert picks.cost <= budget


def test_either_greedy_alone_can_be_bad_and_the_better_is_kept() -> None:
    dear = best_of_both(lambda: Modular(np.array([1.1, 10.0])), np.array([1.0, 10.0]), 10)
    assert dear.indices == (1,)
    cheap = best_of_both(lambda: Modular(np.array([10.0] + [9.0] * 10)), np.array([10.0] + [1.0] * 10), 10)
    assert set(cheap.indices) == set(range(1, 11))


def test_ties_go_to_the_lower_index() -> None:
    picks = lazy_greedy(Modular(np.ones(6)), np.ones(6), 3, per_cost=False)
    assert picks.indices == (0, 1, 2)


def test_a_rival_waits_until_nothing_else_fits() -> None:
    def next_door(index: int) -> np.ndarray:
        return np.array([other for other in (index - 1, index + 1) if 0 <= other < 4])

    values = np.array([4.0, 3.0, 2.0, 1.0])
    picks = lazy_greedy(Modular(values), np.ones(4), 4, per_cost=False, rivals=[next_door])
    assert picks.indices == (0, 2, 1, 3)
    assert lazy_greedy(Modular(values), np.ones(4), 2, per_cost=False, rivals=[next_door]).indices == (0, 2)
    deferred = np.array([True, False, False, False])
    assert lazy_greedy(Modular(values), np.ones(4), 4, per_cost=False, deferred=deferred).indices == (1, 2, 3, 0)


def test_a_stricter_rule_holds_among_what_already_waits_and_the_strictest_wait_last() -> None:
    everything = np.arange(6)

    def closes_at_once(index: int) -> np.ndarray:
        return everything[everything != index]

    def next_door(index: int) -> np.ndarray:
        return np.array([other for other in (index - 1, index + 1) if 0 <= other < 6])

    values = np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    rules = [closes_at_once, next_door]
    assert lazy_greedy(Modular(values), np.ones(6), 6, per_cost=False, rivals=rules).indices == (0, 2, 4, 1, 3, 5)
    waiting = np.array([0, 0, 2, 0, 0, 0])
    assert lazy_greedy(Modular(values), np.ones(6), 6, per_cost=False, rivals=rules, deferred=waiting).indices == (0, 3, 5, 1, 2, 4)
    assert lazy_greedy(Modular(values), np.ones(6), 6, per_cost=False, rivals=rules, first=(1,)).indices == (1, 3, 5, 0, 2, 4)
    assert lazy_greedy(Modular(values), np.ones(6), 6, per_cost=False, deferred=waiting).indices == (0, 1, 3, 4, 5, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.floats(0.5, 60), st.booleans())
def test_lazy_equals_plain_greedy_level_by_level(seed: int, count: int, budget: float, per_cost: bool) -> None:
    points, costs = problem(seed, count)
    levels = np.random.default_rng(seed).integers(0, 3, count)
    picks = lazy_greedy(coverage(points), costs, budget, per_cost=per_cost, deferred=levels)
    assert list(picks.indices) == plain_greedy(points, costs, budget, per_cost=per_cost, levels=levels)


def test_nothing_fits() -> None:
    picks = lazy_greedy(Modular(np.ones(2)), np.full(2, 5.0), 4.9, per_cost=True)
    assert picks.indices == ()
    assert picks.value == picks.cost == 0
