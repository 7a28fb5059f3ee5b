"""Tiles that show different objects of each class (PPAL, arXiv 2211.11612, section 3.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.selection.coverage import GRID
from engine.selection.detections import Detections

__all__ = ["diverse_order", "tile_distances"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ABSENT = 2.0


def tile_distances(objects: Detections, rows: Integers) -> Floats:
    """D (n, n) in [0, 2] between the tiles at ``rows``: class-conditioned matching of their objects (equations 5 and 6).

    Each object looks for the most similar one of its class on the other tile; the distances 1 − cos, weighted by the scores, are
    averaged, and the two directions too. Where the other tile shows no object of the class the distance is 2. Tiles that show nothing
    are at distance 0 from one another and 2 from all others. Features, scores and what they give are rounded to multiples of 2⁻¹⁵, so that
    every product and sum is exact, whatever the number of threads.

    Args:
        objects: with features, ordered by tile.
        rows: (n,) rising rows of tiles.
    """
    features = np.zeros((len(objects), 1)) if objects.features is None else np.asarray(objects.features, dtype=np.float64)
    length = np.sqrt((features * features).sum(axis=1, keepdims=True))
    unit = _on_grid(np.divide(features, length, out=np.zeros_like(features), where=length > 0))
    labels, scores = objects.class_scores.argmax(axis=1) if len(objects) else np.zeros(0, dtype=np.int64), _on_grid(objects.scores)
    held = np.isin(objects.tile_index, rows)
    unit, labels, scores, tile = unit[held], labels[held], scores[held], np.searchsorted(rows, objects.tile_index[held])
    one_way = np.zeros((len(rows), len(rows)))
    total = np.bincount(tile, weights=scores, minlength=len(rows))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        first = np.searchsorted(tile[mine], np.unique(tile[mine]))
        shown = tile[mine][first]
        for start, end in zip(first, np.append(first[1:], len(mine)), strict=True):
            part = mine[start:end]
            best = np.full((len(part), len(rows)), ABSENT)
            best[:, shown] = 1 - _on_grid(np.maximum.reduceat(unit[part] @ unit[mine].T, first, axis=1))
            one_way[tile[part[0]]] += scores[part] @ best
    full = total > 0
    one_way[full] = _on_grid(one_way[full] / total[full, None])
    one_way[~full] = np.where(full, ABSENT, 0.0)
    return (one_way + one_way.T) / 2


def diverse_order(distances: Floats, wanted: int, *, rounds: int = 10) -> Integers:
    """``wanted`` of n tiles that stand for all: k-centre greedy, then k-medoids (section 3.3); the others follow by distance.

    Args:
        distances: (n, n) of :func:`tile_distances`, the tiles in the order of their worth.
        wanted: how many; at least 1.
        rounds: how often the medoids move at most.
    """
    count = len(distances)
    wanted = min(wanted, count)
    chosen = _greedy(distances, wanted)
    for _ in range(rounds):
        own = distances[:, chosen].argmin(axis=1)
        moved = np.asarray([_medoid(distances, np.flatnonzero(own == each), chosen[each]) for each in range(wanted)], dtype=np.int64)
        if np.array_equal(moved, chosen):
            break
        chosen = moved
    chosen = np.unique(chosen)
    rest = np.setdiff1d(np.arange(count), chosen)
    far = distances[np.ix_(rest, chosen)].min(axis=1) if len(rest) else np.zeros(0)
    return np.concatenate([chosen, rest[np.argsort(-far, kind="stable")]])


def _on_grid(values: Floats) -> Floats:
    rounded: Floats = np.round(values * GRID) / GRID
    return rounded


def _greedy(distances: Floats, wanted: int) -> Integers:
    chosen = [0]
    distance = distances[0].copy()
    while len(chosen) < wanted:
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, distances[chosen[-1]])
    return np.asarray(chosen, dtype=np.int64)


def _medoid(distances: Floats, members: Integers, at: int) -> int:
    if not len(members):
        return at
    within = distances[np.ix_(members, members)].sum(axis=1)
    return int(members[within.argmin()])
