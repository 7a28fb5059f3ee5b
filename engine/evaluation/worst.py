"""The tiles on which a detector is wrong most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.evaluation.matching import Matches

__all__ = ["TileErrors", "tile_errors", "worst_tiles"]


@dataclass(frozen=True)
class TileErrors:
    """What a threshold gives on one tile: true boxes found and missed, false ones, and F1; a tile that is empty and left empty has F1 1."""

    tile: int
    found: int
    missed: int
    false: int
    f1: float


def tile_errors(matches: Matches, tile_ids: Sequence[int], *, threshold: float) -> list[TileErrors]:
    """Count right and wrong boxes tile by tile.

    Args:
        matches: of N tiles.
        tile_ids: (N,) their ids, in the same order.
        threshold: predictions with that score or a higher one count.
    """
    counted = matches.score >= threshold
    predicted = np.bincount(matches.tile[counted], minlength=len(tile_ids))
    found = np.bincount(matches.tile[counted & matches.right], minlength=len(tile_ids))
    true = matches.true_counts.sum(1)
    return [
        TileErrors(tile, hits, boxes - hits, guesses - hits, 2 * hits / (guesses + boxes) if guesses + boxes else 1.0)
        for tile, hits, boxes, guesses in zip(tile_ids, found.tolist(), true.tolist(), predicted.tolist(), strict=True)
    ]


def worst_tiles(errors: Sequence[TileErrors], most: int) -> list[TileErrors]:
    """At most ``most`` tiles with something wrong: most missed and false boxes first, of those alike the lower F1, then the lower id."""
    wrong = [each for each in errors if each.missed + each.false]
    return sorted(wrong, key=lambda each: (-(each.missed + each.false), each.f1, each.tile))[:most]
