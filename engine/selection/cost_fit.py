"""What the acts of an annotator really take: prices fitted to measured visits, held near the priors where little was seen."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import lsq_linear

from engine.config import StageConfig
from engine.errors import BadInput
from engine.selection.cost import Prices

__all__ = ["CostFitConfig", "FittedPrices", "Visits", "fit_prices", "is_idle", "worked_seconds"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
ACTS = ("open", "verify", "edit", "draw", "delete")
DENSITY = len(ACTS)
WIDENING = (8.0, 4.0, 2.0, *[1.0] * 9)
"""One a pass: what the limit of idleness is multiplied by. Prices of the first passes may still be wrong by much."""
LEAST_SHARE = 0.01
"""No act takes less than this share of its prior, so that every tile costs something."""
DENSITY_SHARE = 0.05
"""Where the prior density is 0, it is held there as if it stood at this share of the price of verifying: 0.1 s beside 2 s. One thing more
among those to be looked through adds 0.02 to 0.05 s to a search (Wolfe 1998)."""


class CostFitConfig(StageConfig):
    """How measured visits become prices."""

    measured: bool = True
    """Learn from measured visits; false leaves prices and expected seconds as the configuration has them."""
    minimum_visits: int = Field(default=10, ge=1)
    """With fewer visits that can be used, the prices stay what they are."""
    prior_visits: float = Field(default=3.0, gt=0)
    """The price of an act in the configuration weighs as much as so many visits in which nothing but that act was done."""
    idle_multiple: float = Field(default=4.0, gt=1)
    """A visit of more than so many times the expected seconds was left lying, and is cut."""
    idle_seconds: float = Field(default=60.0, ge=0)
    """A visit that took no longer than this is never called idle."""
    winsorise: float = Field(default=0.95, gt=0.5, le=1)
    """Visits that took longer, against what was expected, than this share of all do, are taken to have taken as long as that share."""


@dataclass(frozen=True, eq=False)
class Visits:
    """N measured visits of an annotator to a tile, in any order.

    ``seconds`` (N,) as measured; ``verified``, ``edited``, ``drawn`` and ``deleted`` (N,) how many boxes were left as they were shown,
    moved or relabelled, added, and removed.

    Raises:
        BadInput: lengths that differ, or a number of boxes that is negative or not finite.
    """

    seconds: Floats
    verified: Floats
    edited: Floats
    drawn: Floats
    deleted: Floats

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name), dtype=np.float64))
        shapes = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if set(shapes.values()) != {(len(self.seconds),)}:
            raise BadInput(f"visits with shapes {shapes}", expected="(N,) each")
        broken = ~(np.isfinite(self.acts) & (self.acts >= 0)).all(axis=1)
        if broken.any():
            row = int(np.flatnonzero(broken)[0])
            raise BadInput(f"visit {row} with {self.acts[row].tolist()} boxes verified, edited, drawn, deleted", expected="numbers from 0")

    @property
    def acts(self) -> Floats:
        """(N, 4): verified, edited, drawn, deleted."""
        return np.stack([self.verified, self.edited, self.drawn, self.deleted], axis=1)

    def take(self, rows: NDArray[np.int64] | Mask) -> Visits:
        """The visits at ``rows``."""
        return Visits(*(getattr(self, field.name)[rows] for field in fields(self)))

    def expected(self, prices: Prices) -> Floats:
        """Seconds (N,) that the acts take at ``prices``."""
        return prices.seconds(self.verified, self.edited, self.drawn, self.deleted)


@dataclass(frozen=True)
class FittedPrices:
    """Prices and where they come from.

    ``visits``: how many the fit used, 0 where the prices are the priors; ``idle``: cut as left lying; ``unusable``: without a positive,
    finite number of seconds.
    """

    prices: Prices
    visits: int
    idle: int
    unusable: int


def is_idle(seconds: Floats, expected: Floats, config: CostFitConfig, *, widening: float = 1.0) -> Mask:
    """Mask (N,) of the visits that took more than ``idle_multiple · widening`` times the expected seconds, and over ``idle_seconds``."""
    idle: Mask = (seconds > config.idle_multiple * widening * expected) & (seconds > config.idle_seconds)
    return idle


def fit_prices(visits: Visits, priors: Prices, config: CostFitConfig) -> FittedPrices:
    """Prices that explain measured seconds: robust, never negative, and the same whatever the order of the visits.

    A visit's error grows with its length, so errors count relative to the expected seconds. Per pass: idle visits are cut, the rest
    winsorised, and the prices p = prior · θ solve, over θ and a common pace g of the annotators,

        Σ_i ((Σ_k prior_k·acts_ik·θ_k − y_i) / ŷ_i)² + n₀·Σ_k ((θ_k − g) / θ̂_k)² + n₀·((g − 1) / ĝ)²,    θ ≥ 0.01

    with ŷ, θ̂ and ĝ of the pass before and n₀ = ``prior_visits``. So each act is held by how little of the seconds was spent on it, and one
    that was never seen follows the pace of the others. The density has no pace: (θ − 1) / max(1, θ̂) stands there for it, and
    θ / max(1, θ̂) where its prior is 0.

    Args:
        visits: those without a positive, finite number of seconds are left out; those without acts tell what opening takes.
        priors: prices to start from and to hold on to.
        config: how robust, and how many visits the priors weigh.
    """
    usable = np.isfinite(visits.seconds) & (visits.seconds > 0)
    known = visits.take(usable)
    known = known.take(np.lexsort((known.seconds, *known.acts.T)))
    unusable = int((~usable).sum())
    if len(known.seconds) < config.minimum_visits:
        return FittedPrices(priors, 0, 0, unusable)
    state = np.full(len(ACTS) + 2, np.median(known.seconds / known.expected(priors)))
    state[DENSITY] = float(priors.density > 0)
    idle: Mask = np.zeros(len(known.seconds), dtype=bool)
    for widening in WIDENING:
        expected = known.expected(_prices(state, priors))
        idle = is_idle(known.seconds, expected, config, widening=widening)
        state = _solved(known.take(~idle), expected[~idle], state, priors, config)
    used = int((~idle).sum())
    if used < config.minimum_visits:
        return FittedPrices(priors, 0, int(idle.sum()), unusable)
    return FittedPrices(_prices(state, priors), used, int(idle.sum()), unusable)


def worked_seconds(visits: Visits, prices: Prices, config: CostFitConfig) -> Floats:
    """What is believed of the measured seconds (N,) at ``prices``: NaN where a visit was idle or cannot be used, the rest winsorised."""
    expected = visits.expected(prices)
    usable = np.isfinite(visits.seconds) & (visits.seconds > 0)
    usable[usable] = ~is_idle(visits.seconds[usable], expected[usable], config)
    worked = np.full(len(expected), np.nan)
    worked[usable] = _winsorised(visits.seconds[usable] / expected[usable], config) * expected[usable]
    return worked


def _winsorised(ratio: Floats, config: CostFitConfig) -> Floats:
    capped: Floats = np.minimum(ratio, np.quantile(ratio, config.winsorise)) if len(ratio) else ratio
    return capped


def _units(priors: Prices) -> Floats:
    """Seconds (6,) that θ = 1 stands for: open, verify, edit, draw, delete, density."""
    return np.array([*(getattr(priors, act) for act in ACTS), priors.density or DENSITY_SHARE * priors.verify])


def _prices(state: Floats, priors: Prices) -> Prices:
    return Prices(**dict(zip((*ACTS, "density"), (state[:-1] * _units(priors)).tolist(), strict=True)))


def _solved(visits: Visits, expected: Floats, state: Floats, priors: Prices, config: CostFitConfig) -> Floats:
    """One pass: θ of the five acts, of the density, and the pace, (7,), from those of the pass before."""
    boxes = visits.verified + visits.edited + visits.drawn
    rows = np.column_stack([np.ones(len(expected)), visits.acts, boxes**2]) * _units(priors) / expected[:, None]
    held = np.diag(1 / np.where(np.arange(len(state)) == DENSITY, np.maximum(state, 1.0), state))
    held[: len(ACTS), -1] = -1 / state[: len(ACTS)]
    held_at = np.zeros(len(state))
    held_at[DENSITY], held_at[-1] = held[DENSITY, DENSITY] * (priors.density > 0), 1 / state[-1]
    weight = np.sqrt(config.prior_visits)
    lower = np.where(np.arange(len(state)) == DENSITY, 0.0, LEAST_SHARE)
    design = np.vstack([np.column_stack([rows, np.zeros(len(rows))]), weight * held])
    wanted = np.concatenate([_winsorised(visits.seconds / expected, config), weight * held_at])
    solved: Floats = lsq_linear(design, wanted, bounds=(lower, np.inf), method="bvls").x
    return np.clip(solved, lower, None)
