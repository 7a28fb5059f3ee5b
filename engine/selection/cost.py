"""What a tile will cost an annotator in seconds, before anybody has looked at it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.config import StageConfig

__all__ = ["CostConfig", "Prices", "TileCosts", "estimate_costs", "prior_costs", "with_more_missed"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Prices(StageConfig):
    """Seconds of an annotator's time for each act.

    The literature measures 7–35 s for drawing a box and about 2 s for verifying one; fit these to your own annotators.
    """

    open: float = Field(default=4.0, gt=0)
    """Opening a tile and looking it over, boxes or not."""
    verify: float = Field(default=2.0, gt=0)
    """Accepting a shown box as it is."""
    edit: float = Field(default=6.0, gt=0)
    """Dragging a shown box into place."""
    draw: float = Field(default=12.0, gt=0)
    """Drawing a box that was not shown."""
    delete: float = Field(default=1.5, gt=0)
    """Removing a shown box that is no object."""
    density: float = Field(default=0.0, ge=0)
    """Looking each of a tile's n boxes up among the others: so many seconds times n². A search for one thing among n takes time in
    proportion to n (Treisman and Gelade 1980), and there are n of them."""

    def seconds(self, verified: Floats | float, edited: Floats | float, drawn: Floats | float, deleted: Floats | float) -> Floats:
        """Open + verify·v + edit·e + draw·d + delete·x + density·(v + e + d)², for numbers of boxes, each (N,) or one number."""
        boxes = np.asarray(verified, dtype=np.float64) + edited + drawn
        acts = self.verify * np.asarray(verified) + self.edit * np.asarray(edited) + self.draw * np.asarray(drawn)
        total: Floats = self.open + acts + self.delete * np.asarray(deleted) + self.density * boxes**2
        return total

    def scaled(self, factor: float) -> Prices:
        """Prices at which everything takes ``factor`` times as long."""
        return Prices(**{name: factor * getattr(self, name) for name in Prices.model_fields})


class CostConfig(StageConfig):
    """How predictions turn into expected work; every number is a prior that measured seconds can replace."""

    shown_score: float = Field(default=0.3, ge=0, le=1)
    """Predictions from this score up are shown to the annotator; the objects below it have to be drawn."""
    sure_score: float = Field(default=0.6, ge=0, le=1)
    """A shown prediction from this score up is expected to need no more than a look."""
    miss_rate: float = Field(default=0.2, ge=0, lt=1)
    """Share of all objects for which the detector proposes nothing at all."""
    overlooked_objects: float = Field(default=0.5, ge=0)
    """Objects expected on a tile beyond those, even where the detector sees nothing."""
    expected_objects: float = Field(default=8.0, ge=0)
    """Objects expected on a tile while there is no detector to count them."""


@dataclass(frozen=True, eq=False)
class TileCosts:
    """Expected work on N tiles: the total in ``seconds`` (N,), and the expected numbers of boxes (N,) behind it."""

    seconds: Floats
    sure: Floats
    medium: Floats
    missed: Floats

    @property
    def objects(self) -> Floats:
        """Objects (N,) expected on each tile."""
        return self.sure + self.medium + self.missed

    def take(self, index: Integers) -> TileCosts:
        """The costs of the tiles at ``index``."""
        return TileCosts(self.seconds[index], self.sure[index], self.medium[index], self.missed[index])


def _costs(sure: Floats, medium: Floats, missed: Floats, prices: Prices) -> TileCosts:
    return TileCosts(prices.seconds(sure, medium, missed, 0.0), sure, medium, missed)


def estimate_costs(tile_index: Integers, scores: Floats, tiles: int, prices: Prices, config: CostConfig) -> TileCosts:
    """Expected seconds on each tile: open + verify·n_sure + edit·n_medium + draw·n_missed + density·n².

    A score is read as the probability of an object. So the objects that the detector proposes number Σs, those of all
    Σs / (1 − miss_rate) + overlooked; the missed ones are the proposals below ``shown_score`` and what was not proposed.

    Args:
        tile_index: (P,) the tile of each object kept by :func:`engine.selection.detections.keep_objects`.
        scores: (P,) in [0, 1].
        tiles: number of tiles.
        prices: seconds an act.
        config: priors.
    """

    def count(mask: NDArray[np.bool_], weights: Floats) -> Floats:
        return np.bincount(tile_index[mask], weights=weights[mask], minlength=tiles).astype(np.float64)

    one = np.ones_like(scores)
    sure = scores >= config.sure_score
    medium = ~sure & (scores >= config.shown_score)
    hidden = count(~sure & ~medium, scores)
    unproposed = count(one > 0, scores) * config.miss_rate / (1 - config.miss_rate)
    return _costs(count(sure, one), count(medium, one), hidden + unproposed + config.overlooked_objects, prices)


def with_more_missed(costs: TileCosts, missed: float, prices: Prices) -> TileCosts:
    """The costs if every tile held ``missed`` objects more that have to be drawn.

    A detector that has seen little gives low scores and so counts too few objects; how many it lacks on labelled tiles is known.
    """
    return _costs(costs.sure, costs.medium, costs.missed + missed, prices)


def prior_costs(tiles: int, prices: Prices, config: CostConfig) -> TileCosts:
    """Expected seconds while there is no detector: every tile holds ``expected_objects``, all to be drawn."""
    nothing = np.zeros(tiles)
    return _costs(nothing, nothing, np.full(tiles, config.expected_objects), prices)
