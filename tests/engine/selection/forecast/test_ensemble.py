"""Learning curves with their doubt: exact where nothing is in doubt, honest where little was measured."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from engine.errors import BadInput, NothingToDo
from engine.selection.forecast.ensemble import CurveConfig, LearningPoints, fit_curves, sampling_error
from engine.selection.forecast.families import FAMILIES, Family

FEW = CurveConfig(draws=400)
AHEAD = np.array([1.0, 1.5, 2.0, 4.0, 1e3])
POINTS = some.lists(
    some.tuples(some.floats(1, 1e5), some.floats(0, 1), some.floats(0, 0.1)), min_size=2, max_size=6, unique_by=lambda point: point[0]
)


def points(amounts: object, ap50: object, errors: object = None) -> LearningPoints:
    amounts = np.asarray(amounts, dtype=np.float64)
    return LearningPoints(amounts, np.asarray(ap50, dtype=np.float64), np.zeros(len(amounts)) if errors is None else np.asarray(errors))


def interval(known: LearningPoints, amounts: object, config: CurveConfig = FEW) -> np.ndarray:
    return np.quantile(fit_curves(known, config).measured(np.asarray(amounts, dtype=np.float64)), [0.1, 0.5, 0.9], axis=0)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("coordinates", [(0.3, -0.4, 0.5), (-0.5, 0.5, -0.5)])
def test_a_curve_without_noise_is_found_again(family: Family, coordinates: tuple[float, float, float]) -> None:
    true, seen = np.array(coordinates), np.linspace(0.15, 1, 8)
    found = fit_curves(points(300 * seen, family.ap50(true, seen)), CurveConfig(noise=1e-5, draws=400))
    curves = found.curves(300 * np.array([0.5, 1.0, 2.0, 4.0]))
    assert np.quantile(curves, [0.1, 0.5, 0.9], axis=0) == pytest.approx(
        np.tile(family.ap50(true, np.array([0.5, 1.0, 2.0, 4.0])), (3, 1)), abs=3e-3
    )
    assert max(found.weights, key=found.weights.__getitem__) == family.name


@settings(max_examples=12, deadline=None)
@given(known=POINTS, shuffle=some.randoms(use_true_random=False))
def test_whatever_was_measured_forecasts_rise_in_0_to_1_and_do_not_depend_on_the_order(known, shuffle) -> None:
    config = CurveConfig(draws=100)
    amounts = max(amount for amount, _, _ in known) * AHEAD
    measured = fit_curves(points(*zip(*known, strict=True)), config).measured(amounts)
    low, middle, high = np.quantile(measured, [0.1, 0.5, 0.9], axis=0)
    assert measured.shape == (100, len(AHEAD))
    assert (measured >= 0).all()
    assert (measured <= 1).all()
    assert all((np.diff(each) >= -1e-9).all() for each in (low, middle, high))
    assert (low <= middle).all()
    assert (middle <= high).all()
    shuffle.shuffle(known)
    again = fit_curves(points(*zip(*known, strict=True)), config).measured(amounts)
    assert np.array_equal(measured, again)


def test_boxes_and_seconds_give_the_same_curve() -> None:
    boxes = np.array([60.0, 150, 240, 400])
    ap50 = [0.2, 0.35, 0.41, 0.5]
    assert np.array_equal(interval(points(boxes, ap50), [800.0]), interval(points(16 * boxes, ap50), [12800.0]))


def test_another_seed_says_nearly_the_same() -> None:
    known = points([100, 200, 300, 400], [0.3, 0.42, 0.47, 0.5])
    first, second = (interval(known, [800], CurveConfig(seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert first == pytest.approx(second, abs=0.01)


def test_two_amounts_leave_more_open_than_four() -> None:
    amounts, ap50 = [100, 200, 300, 400], [0.3, 0.42, 0.47, 0.5]
    narrow, wide = interval(points(amounts, ap50), [800])[:, 0], interval(points(amounts[2:], ap50[2:]), [800])[:, 0]
    assert wide[2] - wide[0] > narrow[2] - narrow[0]


def test_measurements_on_little_ground_leave_more_open() -> None:
    amounts, ap50 = [100, 200, 300, 400], np.array([0.3, 0.42, 0.47, 0.5])
    sure, unsure = (interval(points(amounts, ap50, sampling_error(ap50, np.full(4, boxes))), [800])[:, 0] for boxes in (10_000.0, 50.0))
    assert unsure[2] - unsure[0] > 1.5 * (sure[2] - sure[0])


def test_one_training_that_went_wrong_does_not_bend_the_curve() -> None:
    amounts = np.array([100.0, 200, 300, 400, 500, 600])
    ap50 = 0.7 - 0.4 * (amounts / 100) ** -0.7
    wrong = ap50.copy()
    wrong[3] -= 0.25
    straight, bent = (interval(points(amounts, each), [1000])[1, 0] for each in (ap50, wrong))
    assert bent == pytest.approx(straight, abs=0.03)


def test_about_80_percent_of_what_is_measured_later_lies_in_the_interval() -> None:
    chance, inside = np.random.default_rng(3), []
    for number in range(80):
        amounts = 100.0 * np.arange(1, 6 + number % 3)
        level, limit, speed = chance.uniform(0.1, 0.4), chance.uniform(0.5, 0.9), chance.uniform(0.3, 1.2)
        ap50 = limit - (limit - level) * (amounts / 100) ** -speed + chance.normal(0, 0.015, len(amounts))
        low, _, high = interval(points(amounts[:-2], ap50[:-2]), amounts[-1:])[:, 0]
        inside.append(low <= ap50[-1] <= high)
    assert 0.68 <= np.mean(inside) <= 0.94


def test_a_forecast_takes_no_two_seconds() -> None:
    began = time.process_time()
    interval(points(np.arange(1, 11) * 100.0, np.linspace(0.2, 0.6, 10)), np.linspace(100, 5000, 200), CurveConfig())
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("amounts", "ap50", "found"), [([], [], "0 measurements at 0"), ([50.0, 50.0], [0.1, 0.2], "2 measurements at 1")])
def test_fewer_than_two_amounts_are_refused(amounts: list[float], ap50: list[float], found: str) -> None:
    with pytest.raises(NothingToDo, match=found):
        fit_curves(points(amounts, ap50), FEW)


@pytest.mark.parametrize(
    ("amounts", "ap50", "errors", "found"),
    [
        ([1, 2], [0.1], None, "shapes"),
        ([0, 2], [0.1, 0.2], None, "an amount of 0.0"),
        ([-1, 2], [0.1, 0.2], None, "an amount of -1.0"),
        ([1, np.inf], [0.1, 0.2], None, "an amount of inf"),
        ([1, 2], [0.1, np.nan], None, "an AP50 of nan"),
        ([1, 2], [0.1, 40.0], None, "an AP50 of 40.0"),
        ([1, 2], [0.1, 0.2], [0.0, -0.1], "an error of -0.1"),
    ],
)
def test_impossible_measurements_are_named(amounts: list[float], ap50: list[float], errors: list[float] | None, found: str) -> None:
    with pytest.raises(BadInput, match=found):
        points(amounts, ap50, errors)


def test_half_of_the_binomial_variance_is_that_of_a_difference() -> None:
    assert sampling_error(np.array([0.5, 0.0]), np.array([200.0, 50.0])) == pytest.approx([0.025, 0])
    assert sampling_error(np.array([0.5]), np.array([np.inf]))[0] == 0
