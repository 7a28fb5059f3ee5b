"""All that measured work says of what the next tiles will take: fitted prices, how wrong the counts of boxes were, and the spread."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig, FittedPrices, Visits, fit_prices, worked_seconds
from engine.selection.cost_spread import UNMEASURED, CostSpread, measure_spread

__all__ = ["CostModel", "ForeseenTiles", "learn_costs"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ForeseenTiles:
    """N tiles of earlier rounds, in any order: the boxes that were expected there when they were chosen, and which visit annotated them.

    ``sure``, ``medium`` and ``missed`` (N,) as in :class:`engine.selection.cost.TileCosts`; ``rounds`` (N,) numbers; ``visits`` (N,) the
    row of each tile's visit.

    Raises:
        BadInput: lengths that differ.
    """

    sure: Floats
    medium: Floats
    missed: Floats
    rounds: Integers
    visits: Integers

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise BadInput(f"tiles with {lengths}", expected="as many of each")

    @classmethod
    def none(cls) -> ForeseenTiles:
        """No tile at all."""
        nothing, nowhere = np.zeros(0), np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, nowhere, nowhere)

    def expected(self, prices: Prices) -> Floats:
        """Seconds (N,) that the expected boxes take at ``prices``."""
        return prices.seconds(self.sure, self.medium, self.missed, 0.0)


@dataclass(frozen=True)
class CostModel:
    """Prices as they were fitted, and what is between the seconds expected at them and those measured."""

    fitted: FittedPrices
    spread: CostSpread

    @property
    def prices(self) -> Prices:
        """What expected boxes are to be multiplied by, so that the seconds of a batch are right on average."""
        return self.fitted.prices.scaled(self.spread.factor)


def learn_costs(visits: Visits, foreseen: ForeseenTiles, priors: Prices, config: CostFitConfig) -> CostModel:
    """The cost model after earlier rounds; the priors as they are where too little was measured, or ``config`` says so.

    Two things are learned apart. Visits, whose acts are known, teach prices. Tiles of which the boxes were foreseen teach by what factor
    the foreseen work is too small or too large at those prices: scores are no calibrated probabilities, and boxes shown are not all right.

    Args:
        visits: what annotators did, and how long it took.
        foreseen: tiles of earlier rounds that were foreseen in the way in which the next ones are, by a detector or without one.
        priors: prices in seconds.
        config: how to learn.
    """
    if not config.measured:
        return CostModel(FittedPrices(priors, 0, 0, 0), UNMEASURED)
    fitted = fit_prices(visits, priors, config)
    if not fitted.visits:
        return CostModel(fitted, UNMEASURED)
    worked = worked_seconds(visits, fitted.prices, config)[foreseen.visits]
    return CostModel(fitted, measure_spread(foreseen.expected(fitted.prices), worked, foreseen.rounds))
