"""The cold start: typical tiles of clusters that nobody has labelled (TypiClust, arXiv 2202.02794)."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from engine.selection.clusters import k_means

__all__ = ["typical_order", "typicality"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_CLUSTERS, SMALLEST_CLUSTER, NEIGHBOURS = 500, 5, 20
MOST_COMPARED = 4096


def typicality(points: Floats) -> Floats:
    """How typical each of a cluster's points (n, d) is: the inverse of its mean distance to its 20 nearest neighbours (section 2.1).

    Of more than 4,096 points only as many, evenly taken, are asked as neighbours.
    """
    if len(points) < 2:
        return np.ones(len(points))
    others = points[:: -(-len(points) // MOST_COMPARED)]
    distance = np.sqrt(np.maximum(2 - 2 * (points @ others.T), 0))
    count = min(NEIGHBOURS + 1, len(others))
    nearest = np.partition(distance, count - 1, axis=1)[:, :count]
    typical: Floats = 1 / (np.sort(nearest, axis=1).sum(axis=1) / max(count - 1, 1) + 1e-9)
    return typical


def typical_order(points: Floats, known: Floats, wanted: int, generator: np.random.Generator) -> Integers:
    """All N tiles in the order in which TypiClust takes them (section 2.2).

    The tiles are clustered, labelled ones too, into as many clusters as there will be labels, 500 at most; again and again the
    cluster with the fewest labels, of those the largest, gives its most typical tile. Clusters of fewer than five come last.

    Args:
        points: (N, d) directions of the tiles that can be chosen.
        known: (L, d) directions of the labelled tiles.
        wanted: how many are about to be chosen.
        generator: draws the first centres.
    """
    count = len(points)
    every = np.concatenate([points, known]) if len(known) else points
    cluster = k_means(every, max(1, min(len(known) + wanted, MOST_CLUSTERS)), generator)
    sizes = np.bincount(cluster)
    labels = np.bincount(cluster[count:], minlength=len(sizes))
    members: dict[int, list[int]] = {}
    waiting = [
        (bool(sizes[each] < SMALLEST_CLUSTER), int(labels[each]), -int(sizes[each]), int(each)) for each in np.unique(cluster[:count])
    ]
    heapq.heapify(waiting)
    order: list[int] = []
    while waiting:
        small, held, size, each = heapq.heappop(waiting)
        if each not in members:
            rows = np.flatnonzero(cluster[:count] == each)
            members[each] = rows[np.argsort(typicality(points[rows]), kind="stable")].tolist()
        order.append(members[each].pop())
        if members[each]:
            heapq.heappush(waiting, (small, held + 1, size, each))
    return np.asarray(order, dtype=np.int64)
