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
@settings(max_examples=50, deadline=None)
@given(coordinates=arrays(np.float64, PARAMETERS, elements=some.floats(-3, 3)))
def test_the_first_parameter_is_the_level_at_the_largest_amount(family: Family, coordinates: np.ndarray) -> None:
    level = expit(family.mean[0] + family.deviation[0] * coordinates[0])
    assert family.ap50(coordinates, np.array([1.0]))[0] == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.name != "logarithm"], ids=lambda family: family.name)
def test_the_second_parameter_is_what_a_curve_tends_to(family: Family) -> None:
    coordinates = np.array([0.2, -0.3, 1.5])
    level, share = expit(np.asarray(family.mean[:2]) + np.asarray(family.deviation[:2]) * coordinates[:2])
    assert family.ap50(coordinates, np.array([1e12]))[0] == pytest.approx(level + (1 - level) * share, abs=1e-3)


def test_a_power_law_is_what_its_formula_says() -> None:
    law = Family("power law", FAMILIES[0].formula, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert law.ap50(np.array([0.0, 0.0, np.log(0.5)]), np.array([0.25, 1.0, 4.0])) == pytest.approx([0.25, 0.5, 0.625])


def test_the_algebraic_root_begins_at_nothing() -> None:
    assert FAMILIES[3].ap50(np.zeros(3), np.array([1e-9]))[0] == pytest.approx(0, abs=1e-6)
