"""How well the chosen and labelled tiles stand for all the others, by their embeddings.

Embeddings are centred, brought to length 1 and rounded to multiples of 2⁻¹⁵. Dot products of them, and sums of some thousand such
products, are then exact in float64: whatever the order of summation, the number of threads or of workers, the same tile wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["FacilityLocation", "KCenter", "directions", "far_tails", "nearest"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
GRID = 2.0**15
BLOCK = 4096


def directions(embeddings: NDArray[np.floating]) -> Floats:
    """Unit vectors (N, d) of the embeddings seen from their mean, on a grid of 2⁻¹⁵; an embedding at the mean becomes the zero vector.

    Seen from the mean, because features of one archive share a large common part that makes all of them look alike.
    """
    centred = np.asarray(embeddings, dtype=np.float64)
    centred = centred - centred.mean(axis=0) if len(centred) else centred
    length = np.sqrt((centred * centred).sum(axis=1, keepdims=True))
    scale = np.abs(embeddings).max() if embeddings.size else 0.0
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9 * scale)
    grid: Floats = np.round(unit * GRID) / GRID
    return grid


def nearest(queries: Floats, known: Floats) -> tuple[Floats, Integers]:
    """For each of ``queries`` (N, d) the similarity (N,) in [−1, 1] and the row (N,) of the most similar of ``known`` (M ≥ 1, d).

    Ties go to the lower row.
    """
    similarity = np.empty(len(queries))
    row = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), BLOCK):
        part = slice(start, start + BLOCK)
        table = queries[part] @ known.T
        row[part] = table.argmax(axis=1)
        similarity[part] = np.take_along_axis(table, row[part, None], axis=1)[:, 0]
    return similarity, row


def far_tails(embeddings: NDArray[np.floating], share: float) -> NDArray[np.bool_]:
    """Mask (N,) of the ``share`` of tiles whose embeddings (N, d) lie farthest from the mean: k-center would chase these outliers first."""
    points = np.asarray(embeddings, dtype=np.float64)
    distance = np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1)) if len(points) else np.zeros(0)
    tail = np.zeros(len(points), dtype=bool)
    tail[np.argsort(-distance, kind="stable")[: int(share * len(points))]] = True
    return tail


class FacilityLocation:
    """f(S) = Σᵣ max over S and the labelled of max(0, cos(·, r)), over reference tiles r: monotone and submodular.

    With more tiles than ``references`` the sum runs over a random sample of them, so that a million tiles stay affordable.

    Args:
        points: (N, d) directions of the tiles that can be chosen.
        known: (L, d) directions of the labelled tiles.
        references: most reference tiles.
        generator: draws the sample.
    """

    def __init__(self, points: Floats, known: Floats, references: int, generator: np.random.Generator) -> None:
        self._points = points
        few = len(points) <= references
        sample = np.arange(len(points)) if few else np.sort(generator.choice(len(points), references, replace=False))
        self._references = points[sample]
        self._covered: Floats = np.zeros(len(sample))
        if len(known) and len(sample):
            self._covered = np.maximum(nearest(self._references, known)[0], 0)

    def gains(self) -> Floats:
        """What each tile (N,) would add now."""
        blocks = [
            np.maximum(self._points[start : start + BLOCK] @ self._references.T - self._covered, 0).sum(axis=1)
            for start in range(0, len(self._points), BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def gain(self, index: int) -> float:
        """What tile ``index`` would add now."""
        return float(np.maximum(self._references @ self._points[index] - self._covered, 0).sum())

    def add(self, index: int) -> None:
        """Choose tile ``index``."""
        self._covered = np.maximum(self._covered, self._references @ self._points[index])


class KCenter:
    """Distance 1 − cos to the nearest chosen or labelled tile (arXiv 1708.00489).

    Where nothing is chosen or labelled yet, the tile nearest to the mean of all comes first.

    Args:
        points: (N, d) directions of the tiles that can be chosen.
        known: (L, d) directions of the labelled tiles.
        embeddings: (N, d) the embeddings themselves, for the first choice.
    """

    def __init__(self, points: Floats, known: Floats, embeddings: NDArray[np.floating]) -> None:
        self._points = points
        if len(known):
            self._distance = 1 - nearest(points, known)[0]
        else:
            offset = np.asarray(embeddings, dtype=np.float64)
            offset = np.sqrt(((offset - offset.mean(axis=0)) ** 2).sum(axis=1))
            self._distance = 2 + 1 / (1 + offset)

    def gains(self) -> Floats:
        """The distance (N,) of each tile now."""
        return self._distance.copy()

    def gain(self, index: int) -> float:
        """The distance of tile ``index`` now."""
        return float(self._distance[index])

    def add(self, index: int) -> None:
        """Choose tile ``index``."""
        self._distance = np.minimum(self._distance, 1 - self._points @ self._points[index])
