"""The shapes of learning curves: AP50 as a function of the amount of labels.

Power law, logarithm, arctangent and algebraic root, the families of Mahmood et al., "How Much More Data Do I Need?" (arXiv 2207.01725).
Each is written here in the same three terms, so that what is known of curves beforehand can be said of all: how good the detector is
now, how good it would become, and how fast. Amounts are relative: u = 1 is the largest amount that was measured, so that boxes, seconds
and money give the same curve.

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
STEEPEST = 50.0
"""Largest exponent of e; far below the smallest measured amount a power law leaves [0, 1] in any case."""
FLAT = 1e-12
"""A curve that is nearer to its limit than this has reached it."""


@dataclass(frozen=True)
class Family:
    """One shape: its name, the curve of its parameters, and the prior mean and standard deviation of each parameter.

    ``formula`` maps parameters (..., 3) before their bounds, and amounts (m,) to AP50 (..., m), which may leave [0, 1].
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
        return np.clip(self.formula(np.asarray(self.mean) + np.asarray(self.deviation) * coordinates, relative), 0.0, 1.0)


def _level_and_limit(parameters: Floats) -> tuple[Floats, Floats]:
    """AP50 at u = 1 in (0, 1), and the AP50 that the curve tends to, in (level, 1); each (..., 1)."""
    level = expit(parameters[..., :1])
    return level, level + (1 - level) * expit(parameters[..., 1:2])


def _power_law(parameters: Floats, relative: Floats) -> Floats:
    """Limit − (limit − level)·u^−c."""
    level, limit = _level_and_limit(parameters)
    exponent = -np.exp(parameters[..., 2:]) * np.log(relative)
    ap50: Floats = limit - (limit - level) * np.exp(np.minimum(exponent, STEEPEST))
    return ap50


def _logarithm(parameters: Floats, relative: Floats) -> Floats:
    """Level + k·(1 − level)·ln((u + d) / (1 + d)); it has no limit, and is cut at 1."""
    level = expit(parameters[..., :1])
    rate, offset = np.exp(parameters[..., 1:2]), np.exp(parameters[..., 2:])
    ap50: Floats = level + rate * (1 - level) * np.log((relative + offset) / (1 + offset))
    return ap50


def _arctangent(parameters: Floats, relative: Floats) -> Floats:
    """Limit − (limit − level)·acot(s·u) / acot(s)."""
    level, limit = _level_and_limit(parameters)
    speed = np.exp(parameters[..., 2:])
    ap50: Floats = limit - (limit - level) * np.arctan2(1.0, speed * relative) / np.arctan2(1.0, speed)
    return ap50


def _algebraic_root(parameters: Floats, relative: Floats) -> Floats:
    """limit·v / (1 + v^k)^(1/k) with v = s·u, and s such that it is the level at u = 1; it begins at 0."""
    level, limit = _level_and_limit(parameters)
    sharpness = np.exp(parameters[..., 2:])
    share = np.minimum(np.log(level / limit), -FLAT)
    log_speed = share - np.log(-np.expm1(sharpness * share)) / sharpness
    log_v = log_speed + np.log(relative)
    ap50: Floats = limit * np.exp(log_v - np.logaddexp(0.0, sharpness * log_v) / sharpness)
    return ap50


LEVEL, LIMIT = (-0.3, 1.6), (-0.3, 1.8)
"""Mean and deviation of the logit of AP50 at u = 1, and of the logit of the share of the rest up to 1 that can be reached at all."""
FAMILIES = (
    Family("power law", _power_law, *zip(LEVEL, LIMIT, (-0.5, 0.6), strict=True)),
    Family("logarithm", _logarithm, *zip(LEVEL, (-2.0, 1.0), (-2.0, 1.5), strict=True)),
    Family("arctangent", _arctangent, *zip(LEVEL, LIMIT, (0.0, 1.2), strict=True)),
    Family("algebraic root", _algebraic_root, *zip(LEVEL, LIMIT, (0.0, 0.8), strict=True)),
)
