"""Budgets: money, hours, tiles and boxes agree, more is never worth less, and the advice is what the curves say."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from engine.errors import BadInput
from engine.selection.forecast.budget import BudgetConfig, Exchange, advise, purchases
from engine.selection.forecast.ensemble import CurveEnsemble, LearningPoints, fit_curves
from engine.selection.forecast.families import Family

CONFIG = BudgetConfig(draws=400, hourly_rate=36, step_money=1000, least_gain=0.01)
ONES = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
EXCHANGE = Exchange(boxes_per_second=0.1, tiles_per_second=0.02, hourly_rate=36, tiles_left=100_000)


def curves(ap50: list[float], boxes: tuple[float, ...] = (5_000, 10_000, 15_000, 20_000)) -> CurveEnsemble:
    return fit_curves(LearningPoints(np.array(boxes, dtype=np.float64), np.array(ap50), np.zeros(len(ap50))), CONFIG)


@pytest.fixture(scope="module")
def steep() -> CurveEnsemble:
    return curves([0.1, 0.2, 0.27, 0.33])


@pytest.fixture(scope="module")
def flat() -> CurveEnsemble:
    return curves([0.6, 0.601, 0.6, 0.602])


def test_money_hours_tiles_and_boxes_agree(steep: CurveEnsemble) -> None:
    [bought] = purchases(steep, EXCHANGE, 20_000, np.array([EXCHANGE.seconds(500)]), CONFIG)
    assert (bought.money, bought.hours, bought.seconds) == (pytest.approx(500), pytest.approx(500 / 36), pytest.approx(50_000))
    assert (bought.tiles, bought.boxes) == (1000, 5000)
    assert bought.low < bought.ap50 < bought.high
    assert bought.ap50 > 0.33
    assert bought.next_low <= bought.next_gain <= bought.next_high


@settings(max_examples=25, deadline=None)
@given(budgets=some.lists(some.floats(0, 1e7), min_size=2, max_size=6))
def test_more_is_never_worth_less(steep: CurveEnsemble, budgets: list[float]) -> None:
    bought = purchases(steep, EXCHANGE, 20_000, np.sort(np.array(budgets)), CONFIG)
    for less, more in itertools.pairwise(bought):
        for name in ("money", "tiles", "boxes", "ap50", "low", "high", "gain"):
            assert getattr(less, name) <= getattr(more, name) + 1e-9, name
        assert more.next_gain <= less.next_gain + 1e-9
    for each in bought:
        assert 0 <= each.low <= each.ap50 <= each.high <= 1
        assert each.gain >= 0


def test_one_budget_alone_is_told_the_same_as_among_others(steep: CurveEnsemble) -> None:
    alone = purchases(steep, EXCHANGE, 20_000, np.array([700.0]), CONFIG)
    assert purchases(steep, EXCHANGE, 20_000, np.array([50.0, 700.0, 9e5]), CONFIG)[1:2] == alone


def test_nothing_can_be_bought_beyond_the_tiles_that_are_left(steep: CurveEnsemble) -> None:
    few = Exchange(boxes_per_second=0.1, tiles_per_second=0.02, hourly_rate=36, tiles_left=400)
    half, all_of_it, more = purchases(steep, few, 20_000, np.array([10_000, 20_000, 1e9]), CONFIG)
    assert (half.tiles, all_of_it.tiles, more.tiles) == (200, 400, 400)
    assert (more.money, more.ap50, more.next_gain) == (pytest.approx(200), all_of_it.ap50, 0)


def test_nothing_spent_gains_nothing(steep: CurveEnsemble) -> None:
    [nothing] = purchases(steep, EXCHANGE, 20_000, np.array([0.0]), CONFIG)
    assert (nothing.tiles, nothing.boxes, nothing.money, nothing.gain) == (0, 0, 0, 0)


def test_the_advice_is_to_go_on_while_the_curve_rises_and_to_stop_when_it_is_flat(steep: CurveEnsemble, flat: CurveEnsemble) -> None:
    on, off = (advise(each, EXCHANGE, 20_000, CONFIG) for each in (steep, flat))
    assert (on.stop, off.stop) == (False, True)
    assert on.expected_gain > 0.01 > off.expected_gain
    assert on.probability > 0.9
    assert off.probability < 0.3
    assert off.worth_money == 0
    assert on.worth_money >= 1000
    last, beyond = purchases(
        steep, EXCHANGE, 20_000, np.array([EXCHANGE.seconds(on.worth_money - 1000), EXCHANGE.seconds(on.worth_money)]), CONFIG
    )
    assert last.next_gain >= 0.01 > beyond.next_gain


def test_a_poor_step_before_better_ones_is_taken() -> None:
    late = Family(
        "late", lambda parameters, amounts: 0.9 / (1 + np.exp(-4 * np.log(amounts / 3))) * np.ones_like(parameters[..., :1]), *ONES
    )
    ensemble = CurveEnsemble(20_000, ((late, np.zeros((100, 3))),), np.zeros(100))
    step = {**CONFIG.model_dump(), "step_money": 200, "least_gain": 0.01}
    advice = advise(ensemble, EXCHANGE, 20_000, BudgetConfig(**step))
    assert advice.expected_gain < 0.01
    assert not advice.stop
    _, last = purchases(ensemble, EXCHANGE, 20_000, np.array([0.0, EXCHANGE.seconds(advice.worth_money)]), BudgetConfig(**step))
    assert last.gain > 0.01 * advice.worth_money / 200
    assert last.next_gain < 0.01


def test_a_lower_bar_lets_more_be_spent(steep: CurveEnsemble) -> None:
    worth = [advise(steep, EXCHANGE, 20_000, CONFIG.model_copy(update={"least_gain": bar})).worth_money for bar in (0.05, 0.01, 0.002)]
    assert worth == sorted(worth)
    assert worth[0] < worth[2]


def test_advice_ends_with_the_tiles(steep: CurveEnsemble) -> None:
    few = Exchange(boxes_per_second=0.1, tiles_per_second=0.02, hourly_rate=36, tiles_left=3000)
    assert advise(steep, few, 20_000, CONFIG).worth_money == pytest.approx(1500)


def test_the_bar_is_as_much_lower_as_less_can_be_spent(steep: CurveEnsemble) -> None:
    few = Exchange(boxes_per_second=0.1, tiles_per_second=0.02, hourly_rate=36, tiles_left=20)
    advice = advise(steep, few, 20_000, CONFIG)
    assert (advice.step_money, advice.least_gain) == (pytest.approx(10), pytest.approx(0.0001))
    assert 0.0001 < advice.expected_gain < 0.01
    assert (advice.stop, advice.worth_money) == (False, pytest.approx(10))
    assert advice.probability > 0.9


def test_the_next_step_costs_what_is_left(steep: CurveEnsemble) -> None:
    few = Exchange(boxes_per_second=0.1, tiles_per_second=0.02, hourly_rate=36, tiles_left=3000)
    bought = purchases(steep, few, 20_000, few.seconds(1) * np.array([0.0, 1000.0, 1500.0]), CONFIG)
    assert [each.next_money for each in bought] == [pytest.approx(1000), pytest.approx(500), 0]
    assert advise(steep, Exchange(0.1, 0.02, 36, 0), 20_000, CONFIG).stop


@pytest.mark.parametrize("budget", [-1.0, np.nan, np.inf])
def test_a_budget_below_nothing_is_refused(steep: CurveEnsemble, budget: float) -> None:
    with pytest.raises(BadInput, match="a budget of"):
        purchases(steep, EXCHANGE, 20_000, np.array([10.0, budget]), CONFIG)


def test_a_curve_says_nothing_of_no_labels(steep: CurveEnsemble) -> None:
    with pytest.raises(BadInput, match="0 annotated boxes"):
        purchases(steep, EXCHANGE, 0, np.array([10.0]), CONFIG)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"boxes_per_second": 0.0}, "boxes_per_second = 0"),
        ({"tiles_per_second": np.nan}, "tiles_per_second = nan"),
        ({"hourly_rate": -3.0}, "hourly_rate = -3"),
        ({"tiles_left": -1}, "tiles_left = -1"),
    ],
)
def test_impossible_rates_are_named(change: dict[str, float], found: str) -> None:
    with pytest.raises(BadInput, match=found):
        Exchange(**{"boxes_per_second": 0.1, "tiles_per_second": 0.02, "hourly_rate": 36, "tiles_left": 1, **change})
