"""k-means over directions, the same to the last bit whatever the number of threads or of workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.selection.coverage import GRID, nearest

__all__ = ["k_means"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def k_means(points: Floats, clusters: int, generator: np.random.Generator, *, turns: int = 20, sample: int = 20_000) -> Integers:
    """The cluster (N,) in [0, k) of each of ``points``, k ≤ ``clusters`` and never more than there are distinct points.

    Centres are rounded to the grid of the points, so every dot product and every sum is exact. They start far from one another
    (k-means++, Arthur and Vassilvitskii 2007) and move ``turns`` times at most, over ``sample`` points where there are more.

    Args:
        points: (N, d) directions of :func:`engine.selection.coverage.directions`.
        clusters: how many at most; at least 1.
        generator: draws the sample and the first centres.
        turns: how often the centres move at most.
        sample: points that decide where the centres lie.
    """
    if not len(points):
        return np.zeros(0, dtype=np.int64)
    few = len(points) <= sample
    used = points if few else points[np.sort(generator.choice(len(points), sample, replace=False))]
    centres = _spread(used, min(clusters, len(used)), generator)
    for _ in range(turns):
        own = nearest(used, centres)[1]
        moved = _centres(used, own, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return nearest(points, centres)[1]


def _spread(points: Floats, count: int, generator: np.random.Generator) -> Floats:
    """First centres (k, d): each drawn with a probability in proportion to its distance from those drawn before."""
    chosen = [int(generator.integers(len(points)))]
    distance = np.maximum(1 - points @ points[chosen[0]], 0)
    while len(chosen) < count:
        reach = np.cumsum(distance)
        if reach[-1] <= 0:
            break
        chosen.append(int(min(np.searchsorted(reach, generator.random() * reach[-1], side="right"), len(points) - 1)))
        distance = np.minimum(distance, np.maximum(1 - points @ points[chosen[-1]], 0))
    return points[chosen]


def _centres(points: Floats, own: Integers, centres: Floats) -> Floats:
    """The direction (k, d) of the mean of each cluster; a cluster without a point keeps its centre."""
    order = np.argsort(own, kind="stable")
    held, first = np.unique(own[order], return_index=True)
    total = np.add.reduceat(points[order], first, axis=0)
    length = np.sqrt((total * total).sum(axis=1, keepdims=True))
    moved = centres.copy()
    moved[held] = np.round(np.divide(total, length, out=centres[held].copy(), where=length > 0) * GRID) / GRID
    return moved
