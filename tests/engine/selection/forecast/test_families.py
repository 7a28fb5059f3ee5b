"""Families: every point of the coordinate space is a learning curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from engine.selection.forecast.families import FAMILIES, PARAMETERS, Family

COORDINATES = arrays(np.float64, (5, PARAMETERS), elements=some.floats(-8, 8))
AMOUNTS = arrays(np.float64, 7, elements=some.floats(1e-6, 1e6))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=50, deadline=None)
@given(coordinates=COORDINATES, amounts=AMOUNTS)
def test_no_curve_falls_or_leaves_0_to_1(family: Family, coordinates: np.ndarray, amounts: np.ndarray) -> None:
    ap50 = family.ap50(coordinates, np.sort(amounts))
    assert ap50.shape == (5, 7)
    assert np.isfinite(ap50).all()
    assert (ap50 >= 0).all()
    assert (ap50 <= 1).all()
    assert (np.diff(ap50, axis=1) >= -1e-9).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_curve_begins_at_nothing_and_tends_to_its_limit(family: Family) -> None:
    coordinates = np.array([0.2, -0.3, 0.5])
    limit = expit(family.mean[0] + family.deviation[0] * coordinates[0])
    assert family.ap50(coordinates, np.array([1e-12, 1e12])) == pytest.approx([0, limit], abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_same_curve_may_be_measured_before_its_knee_or_past_it(family: Family) -> None:
    amounts = np.array([0.5, 1.0, 2.0])
    early, later = (np.array([0.3, place, 0.2]) for place in (-1.0, 1.0))
    further = np.exp(2.0 * family.deviation[1])
    assert family.ap50(later, amounts) == pytest.approx(family.ap50(early, further * amounts))


def test_curves_are_what_their_formulas_say() -> None:
    parameters, amounts = np.array([0.0, np.log(2), np.log(0.5)]), np.array([0.5, 2.0])
    weibull, hill = (Family(each.name, each.formula, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) for each in FAMILIES)
    assert weibull.ap50(parameters, amounts) == pytest.approx([0.5 * (1 - np.exp(-1)), 0.5 * (1 - np.exp(-2))])
    assert hill.ap50(parameters, amounts) == pytest.approx([0.25, 0.5 * 2 / 3])
