"""How far measured seconds lie from expected ones, and so what a tile or a batch takes at half and at nine tenths of all times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput

__all__ = ["UNMEASURED", "CostSpread", "Quantiles", "batch_quantiles", "measure_spread", "tile_quantiles"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
NORMAL_P90 = 1.2815515655446004
"""The value that nine tenths of a standard normal distribution lie below."""
FIRST_BIAS, DRIFT, DAY, TILE = 0.3, 0.15, 0.2, 0.5
"""Standard deviations of the logarithm of worked over expected seconds, as they are believed to be before anything was measured: of the
bias of a first round, of its change from round to round (annotators learn, detectors are trained anew), of a round around it (better and
worse days), and of a tile in its round."""
TILES_OF_THE_PRIOR, ROUNDS_OF_THE_PRIOR = 10.0, 4.0
"""So many measured tiles and rounds these beliefs weigh."""


@dataclass(frozen=True)
class Quantiles:
    """Seconds that are exceeded half of the time, and once in ten times."""

    p50: float
    p90: float


@dataclass(frozen=True)
class CostSpread:
    """Worked over expected seconds, from ``tiles`` in ``rounds``.

    ``factor``: what the next batch is to be multiplied by; ``tile_spread`` and ``round_spread``: standard deviations of the logarithm, of a
    tile in its round and of a round.
    """

    factor: float
    tile_spread: float
    round_spread: float
    tiles: int
    rounds: int


UNMEASURED = CostSpread(1.0, TILE, math.sqrt(FIRST_BIAS**2 + DAY**2), 0, 0)
"""What is believed before anything was measured."""


@dataclass(frozen=True)
class _Look:
    """A round that is over: ln(Σ worked / Σ expected), the deviations of its tiles on that scale, and Σ e² / (Σ e)² of the expected."""

    bias: float
    deviations: Floats
    concentration: float


def measure_spread(expected: Floats, worked: Floats, rounds: Integers) -> CostSpread:
    """What rounds that are over say of the next one, the same in any order of the tiles.

    The logarithm of worked over expected seconds of a round is a noisy look at a bias that drifts from round to round: a random walk,
    followed by Kalman's filter (local level model; Durbin and Koopman 2012, chapter 2). Where rounds scatter more, or less, than
    that model expects, its variance is scaled by the mean square of the standardised surprises.

    Args:
        expected: (N,) seconds of each tile at the prices that are used now, above 0.
        worked: (N,) seconds; tiles of which they are not finite or not positive are left out.
        rounds: (N,) number of the round of each tile; larger ones are later.

    Raises:
        BadInput: lengths that differ, or expected seconds that are not above 0.
    """
    if not len(expected) == len(worked) == len(rounds):
        raise BadInput(f"{len(expected)} expected seconds, {len(worked)} worked, {len(rounds)} rounds", expected="as many of each")
    if not (np.isfinite(expected) & (expected > 0)).all():
        raise BadInput("expected seconds that are not above 0", expected="a positive, finite number a tile")
    usable = np.isfinite(worked) & (worked > 0)
    looks = [_look(expected[rows], worked[rows]) for number in np.unique(rounds[usable]) for rows in [usable & (rounds == number)]]
    tile_spread = _tile_spread(looks)
    bias, variance, surprise = 0.0, FIRST_BIAS**2, ROUNDS_OF_THE_PRIOR
    for look in looks:
        noise = DAY**2 + _variance_of_sum(tile_spread, look.concentration)
        surprise += (look.bias - bias) ** 2 / (variance + noise)
        gain = variance / (variance + noise)
        bias, variance = bias + gain * (look.bias - bias), (1 - gain) * variance + DRIFT**2
    scale = surprise / (ROUNDS_OF_THE_PRIOR + len(looks))
    tiles = sum(len(look.deviations) for look in looks)
    return CostSpread(math.exp(bias), tile_spread, math.sqrt(scale * (variance + DAY**2)), tiles, len(looks))


def _look(expected: Floats, worked: Floats) -> _Look:
    logarithms = np.log(worked / expected)
    total = math.fsum(expected)
    return _Look(math.log(math.fsum(worked) / total), logarithms - np.median(logarithms), math.fsum(expected**2) / total**2)


def _tile_spread(looks: list[_Look]) -> float:
    """Upwards alone, as P90 needs it: where much was foreseen and nothing was there, seconds fall far below."""
    deviations = np.concatenate([look.deviations for look in looks] or [np.zeros(0)])
    upwards = float(np.quantile(deviations, 0.9)) / NORMAL_P90 if len(deviations) else TILE
    return math.sqrt((TILES_OF_THE_PRIOR * TILE**2 + len(deviations) * upwards**2) / (TILES_OF_THE_PRIOR + len(deviations)))


def _variance_of_sum(tile_spread: float, concentration: float) -> float:
    """Of the logarithm of a sum of independent lognormal tiles, taken as lognormal (Fenton 1960): ln(1 + (e^{σ²} − 1)·Σ e²/(Σ e)²)."""
    return math.log1p(math.expm1(tile_spread**2) * concentration)


def tile_quantiles(expected: Floats, spread: CostSpread) -> tuple[Floats, Floats]:
    """P50 (N,) and P90 (N,) of each tile's seconds, from its expected seconds (N,) with the factor in them.

    A tile is lognormal around its mean: P50 = mean · exp(−σ²/2), P90 = P50 · exp(1.28·√(σ² + τ²)), σ of the tile, τ of its round.
    """
    middle = expected * math.exp(-(spread.tile_spread**2) / 2)
    return middle, middle * math.exp(NORMAL_P90 * math.hypot(spread.tile_spread, spread.round_spread))


def batch_quantiles(expected: Floats, spread: CostSpread) -> Quantiles:
    """P50 and P90 of the seconds of a whole batch, from the expected seconds (N,) of its tiles with the factor in them.

    With M = Σ e and s² the variance of the logarithm of the sum of its tiles, P50 = M · exp(−s²/2) and P90 = P50 · exp(1.28·√(s² + τ²)):
    the chance of single tiles cancels out, that of the round does not.
    """
    total = math.fsum(expected)
    if not total > 0:
        return Quantiles(0.0, 0.0)
    variance = _variance_of_sum(spread.tile_spread, math.fsum(expected**2) / total**2)
    middle = total * math.exp(-variance / 2)
    return Quantiles(middle, middle * math.exp(NORMAL_P90 * math.sqrt(variance + spread.round_spread**2)))
