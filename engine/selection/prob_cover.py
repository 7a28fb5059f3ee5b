"""Tiles that have the most others within reach, for very few labels (ProbCover, arXiv 2205.11320)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.selection.clusters import k_means
from engine.selection.coverage import BLOCK, nearest

__all__ = ["BallCover", "ball_reach"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PURITY = 0.95
REACHES = np.linspace(0.95, 0.05, 19)


def ball_reach(points: Floats, clusters: int, generator: np.random.Generator) -> float:
    """The smallest similarity in {0.95, 0.90, …, 0.05} at which 95 % of the balls hold points of one cluster only (section 3.3).

    Args:
        points: (n, d) directions of the reference tiles.
        clusters: as many as there are classes to be told apart.
        generator: draws the first centres.
    """
    cluster = k_means(points, clusters, generator)
    similarity = points @ points.T
    foreign = np.where(cluster[:, None] == cluster[None], -np.inf, similarity).max(axis=1, initial=-np.inf)
    pure = [reach for reach in REACHES if (foreign < reach).mean() >= PURITY]
    return float(min(pure, default=REACHES[0]))


class BallCover:
    """f(S) = how many reference tiles lie within reach of a chosen or labelled tile: monotone and submodular.

    Args:
        points: (N, d) directions of the tiles that can be chosen.
        known: (L, d) directions of the labelled tiles.
        references: (n, d) directions of the tiles that are to be covered.
        reach: similarity from which on a tile covers another.
    """

    def __init__(self, points: Floats, known: Floats, references: Floats, reach: float) -> None:
        self._points, self._references, self._reach = points, references, reach
        self._open: NDArray[np.bool_] = np.ones(len(references), dtype=bool)
        if len(known) and len(references):
            self._open = nearest(references, known)[0] < reach

    def gains(self, rows: Integers | None = None) -> Floats:
        """How many more tiles each of the tiles at ``rows`` (n,), or each of all (N,), would cover now."""
        points = self._points if rows is None else self._points[rows]
        blocks = [
            ((points[start : start + BLOCK] @ self._references.T >= self._reach) & self._open).sum(axis=1)
            for start in range(0, len(points), BLOCK)
        ]
        return np.concatenate(blocks).astype(np.float64) if blocks else np.zeros(0)

    def add(self, index: int) -> None:
        """Choose tile ``index``."""
        self._open &= self._references @ self._points[index] < self._reach
