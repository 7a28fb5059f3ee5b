"""The shapes of learning curves: AP50 as a function of the amount of labels.

Weibull's curve and Hill's (the one of Morgan, Mercer and Flodin without what is known without labels), two of the shapes that Viering and
Loog compare, "The Shape of Learning Curves: a Review" (arXiv 2103.10948). Both begin at 0, for without labels nothing is known of the
classes, and tend to a limit; the one reaches it sooner than the other ever does. Amounts are relative: u = 1 is the largest amount that was
measured, so that boxes, seconds and money give the same curve. Where on the curve that lies, before its knee or long past it, is a
parameter of its own: who has annotated much may have seen the steep part only, or all of it.

A parameter is a standard normal variable before anything is measured (a coordinate), moved and stretched by a prior and then mapped into
its bounds; so every point of the coordinate space is a curve that rises, saturates or stays below 1, and no bound has to be watched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["FAMILIES", "PARAMETERS", "Family"]

Floats = NDArray[np.float64]
PARAMETERS = 3
STEEPEST = 5.0
"""Largest logarithm of an exponent; e to that power of e is nothing, and the curve has reached its limit."""

DECIMALS = 12
"""So far an AP50 is the same whichever amounts are asked for together."""


@dataclass(frozen=True)
class Family:
    """One shape: its name, the curve of its parameters, and the prior mean and standard deviation of each parameter.

    ``formula`` maps parameters (..., 3) before their bounds, and amounts (m,) to AP50 (..., m): the logit of the limit, the logarithm of
    how far along the curve u = 1 lies, and the logarithm of how steep it is there.
    """

    name: str
    formula: Callable[[Floats, Floats], Floats]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def ap50(self, coordinates: Floats, relative: Floats) -> Floats:
        """AP50 in [0, 1], (..., m), never falling along ``relative``.

        Args:
            coordinates: (..., 3), standard normal before anything is measured.
            relative: (m,) amounts as shares of the largest measured one, above 0.
        """
        ap50: Floats = np.round(self.formula(np.asarray(self.mean) + np.asarray(self.deviation) * coordinates, relative), DECIMALS)
        return ap50


def _grown(parameters: Floats, relative: Floats) -> Floats:
    """Logarithm (..., m) of (κu)^s."""
    grown: Floats = np.exp(parameters[..., 2:]) * (parameters[..., 1:2] + np.log(relative))
    return grown


def _weibull(parameters: Floats, relative: Floats) -> Floats:
    """limit·(1 − exp(−(κu)^s))."""
    ap50: Floats = -expit(parameters[..., :1]) * np.expm1(-np.exp(np.minimum(_grown(parameters, relative), STEEPEST)))
    return ap50


def _hill(parameters: Floats, relative: Floats) -> Floats:
    """limit·(κu)^s / (1 + (κu)^s)."""
    ap50: Floats = expit(parameters[..., :1]) * expit(_grown(parameters, relative))
    return ap50


LIMIT, PLACE = (0.6, 1.2), (0.7, 1.5)
"""Mean and deviation of the logit of the limit, and of the logarithm of κ: how far along the curve the largest measured amount lies."""
FAMILIES = (
    Family("Weibull", _weibull, *zip(LIMIT, PLACE, (-0.3, 0.5), strict=True)),
    Family("Hill", _hill, *zip(LIMIT, PLACE, (0.0, 0.5), strict=True)),
)
