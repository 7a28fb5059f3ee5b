"""Enough of every class: what a tile's expected objects add where some classes are known by few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.selection.detections import Detections

__all__ = ["ClassBalance", "class_confidence", "expected_counts"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
GRID = 2.0**15
"""Scores are rounded to multiples of 1 / this: their sums, and those of their squares, are then exact in whatever order they are added."""


def expected_counts(objects: Detections, tiles: int) -> Floats:
    """n̂ (tiles, C): how many objects of each class a tile is expected to hold; a score is read as a probability."""
    counts = np.zeros((tiles, objects.classes))
    for label in range(objects.classes):
        counts[:, label] = np.bincount(objects.tile_index, weights=_on_grid(objects.class_scores[:, label]), minlength=tiles)
    return counts


def class_confidence(detections: Detections, counted: NDArray[np.bool_]) -> Floats:
    """Σ s² / Σ s in [0, 1] of each class (C,), s the scores of the detections whose best class it is: how sure the detector is of it.

    It is the score that an expected object has on average. No label is needed, so it is known of tiles that nobody has looked at. A class
    that was never found has 0.

    Args:
        detections: P of them.
        counted: (P,) those that count: on labelled tiles the detector is surer than elsewhere.
    """
    best, scores = detections.class_scores.argmax(axis=1), np.where(counted, _on_grid(detections.scores), 0)
    total, squares = (np.bincount(best, weights, detections.classes).astype(np.float64) for weights in (scores, scores * scores))
    confidence: Floats = np.divide(squares, total, out=np.zeros_like(total), where=total > 0)
    return confidence


class ClassBalance:
    """f(S) = Σ_c w_c·√(n_c + Σ_{t ∈ S} n̂_c(t)): the concave root makes the tenth object of a class worth less than the first.

    Monotone and submodular, for the root is concave and counts are never negative.

    Args:
        counts: (N, C) expected on the tiles that can be chosen, ≥ 0.
        known: (C,) objects that are labelled already.
        weights: (C,) ≥ 0, what a class is worth; None for 1 each.
    """

    def __init__(self, counts: Floats, known: Floats, weights: Floats | None = None) -> None:
        self._counts = counts
        self._have = np.asarray(known, dtype=np.float64).copy()
        self._weights = np.ones(counts.shape[1]) if weights is None else weights

    def gains(self, rows: Integers | None = None) -> Floats:
        """What each of the tiles at ``rows`` (n,), or each of all (N,), would add now."""
        counts = self._counts if rows is None else self._counts[rows]
        gains: Floats = ((np.sqrt(self._have + counts) - np.sqrt(self._have)) * self._weights).sum(axis=1)
        return gains

    def add(self, index: int) -> None:
        """Choose tile ``index``."""
        self._have = self._have + self._counts[index]


def _on_grid(scores: Floats) -> Floats:
    rounded: Floats = np.round(scores * GRID) / GRID
    return rounded
