"""How well the chosen and labelled tiles stand for all the others, by their embeddings.

Embeddings are centred, brought to length 1 and rounded to multiples of 2⁻¹⁵. Dot products of them, and sums of some thousand such
products, are then exact in float64: whatever the order of summation, the number of threads or of workers, the same tile wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Directions", "FacilityLocation", "KCenter", "far_tails", "nearest"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
GRID = 2.0**15
BLOCK = 4096
TABLE = 2**24


class Directions:
    """Unit vectors of embeddings (N, d) seen from their mean, made for the rows that are asked for.

    Seen from the mean, because features of one archive share a large common part that makes all of them look alike. An embedding at
    the mean becomes the zero vector.

    Args:
        embeddings: (N, d); a memory map is read block by block.
        rows: the rows whose mean is taken, rising; None for all.
    """

    def __init__(self, embeddings: NDArray[np.floating], rows: Integers | None = None) -> None:
        self._embeddings = embeddings
        rows = np.arange(len(embeddings)) if rows is None else rows
        total, self._largest = np.zeros(embeddings.shape[1]), 0.0
        for start in range(0, len(rows), BLOCK):
            block = np.asarray(embeddings[rows[start : start + BLOCK]], dtype=np.float64)
            total += block.sum(axis=0)
            self._largest = max(self._largest, float(np.abs(block).max(initial=0.0)))
        self._mean: Floats = total / max(len(rows), 1)

    def of(self, rows: Integers) -> Floats:
        """Unit vectors (n, d) of the embeddings at ``rows``, on a grid of 2⁻¹⁵."""
        centred = np.asarray(self._embeddings[rows], dtype=np.float64) - self._mean
        length = np.sqrt((centred * centred).sum(axis=1, keepdims=True))
        unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9 * self._largest)
        grid: Floats = np.round(unit * GRID) / GRID
        return grid

    def distance_from_mean(self, rows: Integers) -> Floats:
        """How far (n,) the embeddings at ``rows`` lie from the mean."""
        centred = np.asarray(self._embeddings[rows], dtype=np.float64) - self._mean
        distance: Floats = np.sqrt((centred * centred).sum(axis=1))
        return distance


def nearest(queries: Floats, known: Floats) -> tuple[Floats, Integers]:
    """For each of ``queries`` (N, d) the similarity (N,) in [−1, 1] and the row (N,) of the most similar of ``known`` (M ≥ 1, d).

    Ties go to the lower row.
    """
    similarity = np.empty(len(queries))
    row = np.empty(len(queries), dtype=np.int64)
    block = max(1, TABLE // max(len(known), 1))
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        table = queries[part] @ known.T
        row[part] = table.argmax(axis=1)
        similarity[part] = np.take_along_axis(table, row[part, None], axis=1)[:, 0]
    return similarity, row


def far_tails(distance: Floats, share: float) -> NDArray[np.bool_]:
    """Mask (N,) of the ``share`` of tiles that lie farthest from the mean embedding: k-center would chase these outliers first."""
    tail = np.zeros(len(distance), dtype=bool)
    tail[np.argsort(-distance, kind="stable")[: int(share * len(distance))]] = True
    return tail


class FacilityLocation:
    """f(S) = Σᵣ max over S and the labelled of max(0, cos(·, r)), over reference tiles r: monotone and submodular.

    Args:
        points: (N, d) directions of the tiles that can be chosen.
        known: (L, d) directions of the labelled tiles.
        references: (n, d) directions of the tiles that are to be stood for: all that can be chosen, or a random sample of them.
    """

    def __init__(self, points: Floats, known: Floats, references: Floats) -> None:
        self._points, self._references = points, references
        self._covered: Floats = np.zeros(len(references))
        if len(known) and len(references):
            self._covered = np.maximum(nearest(references, known)[0], 0)

    def gains(self, rows: Integers | None = None) -> Floats:
        """What each of the tiles at ``rows`` (n,), or each of all (N,), would add now."""
        points = self._points if rows is None else self._points[rows]
        blocks = [
            np.maximum(points[start : start + BLOCK] @ self._references.T - self._covered, 0).sum(axis=1)
            for start in range(0, len(points), BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def add(self, index: int) -> None:
        """Choose tile ``index``."""
        self._covered = np.maximum(self._covered, self._references @ self._points[index])


class KCenter:
    """Distance 1 − cos to the nearest chosen or labelled tile (arXiv 1708.00489).

    Where nothing is chosen or labelled yet, the tile nearest to the mean of all comes first.

    Args:
        points: (N, d) directions of the tiles that can be chosen.
        known: (L, d) directions of the labelled tiles.
        from_mean: (N,) distances of the tiles from the mean embedding, for the first choice.
    """

    def __init__(self, points: Floats, known: Floats, from_mean: Floats) -> None:
        self._points = points
        self._distance: Floats = 1 - nearest(points, known)[0] if len(known) else 2 + 1 / (1 + from_mean)

    def gains(self, rows: Integers | None = None) -> Floats:
        """The distance of each of the tiles at ``rows`` (n,), or of each of all (N,), now."""
        return self._distance.copy() if rows is None else self._distance[rows]

    def add(self, index: int) -> None:
        """Choose tile ``index``."""
        self._distance = np.minimum(self._distance, 1 - self._points @ self._points[index])
