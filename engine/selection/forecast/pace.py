"""How quick annotation is, on tiles that hold more or fewer boxes than those that were timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig, is_idle

__all__ = ["Pace", "left_lying"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pace:
    """What a tile took on average, and how many boxes it held; both above 0."""

    seconds_per_tile: float
    boxes_per_tile: float

    def seconds_at(self, boxes_per_tile: float, opening: float) -> float:
        """Seconds of a tile with so many boxes: ``opening`` takes as long as ever, the rest is in proportion to the boxes."""
        fixed = min(opening, self.seconds_per_tile)
        return fixed + (self.seconds_per_tile - fixed) * boxes_per_tile / self.boxes_per_tile


def left_lying(boxes: Floats, seconds: Floats, prices: Prices, config: CostFitConfig) -> NDArray[np.bool_]:
    """Mask (N,) of the tiles that were left lying, where it is not known what was done on them.

    Each is held against ``prices`` with every box drawn, times the pace of these annotators: the median of measured over expected seconds,
    with one tile at the prices themselves among them, so that a single one is not its own measure.

    Args:
        boxes: (N,) on each tile.
        seconds: (N,) measured, above 0.
        prices: in seconds.
        config: from when on a tile counts as left lying.
    """
    expected = prices.seconds(0.0, 0.0, boxes, 0.0)
    pace = float(np.quantile(np.append(seconds / expected, 1.0), 0.5, method="lower"))
    return is_idle(seconds, pace * expected, config)
