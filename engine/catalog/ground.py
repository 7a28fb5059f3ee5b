"""Ground under several scenes: where footprints overlap, one split holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.catalog.splits import NO_SPLIT
from engine.records import Window

if TYPE_CHECKING:
    Polygons = NDArray[np.object_]

__all__ = ["footprints", "reconcile"]

TOLERANCE = 1e-6
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def footprints(windows: Sequence[Window], transform: Sequence[float] | None) -> Polygons:
    """Polygons (N,) of ``windows`` in CRS units; in pixels where ``transform`` (a, b, c, d, e, f) is None."""
    import shapely

    a, b, c, d, e, f = IDENTITY if transform is None else transform
    x1, y1, x2, y2 = np.asarray([window.xyxy for window in windows], dtype=np.float64).reshape(-1, 4).T
    column, row = np.stack([x1, x2, x2, x1, x1], axis=1), np.stack([y1, y1, y2, y2, y1], axis=1)
    corners = np.stack([a * column + b * row + c, d * column + e * row + f], axis=-1)
    polygons: Any = shapely.polygons(corners)
    return np.atleast_1d(polygons)


def reconcile(splits: Sequence[str], polygons: Polygons, taken: Polygons, taken_splits: Sequence[str]) -> list[str]:
    """The splits of new tiles once ground that is given away already is respected.

    A tile that touches taken ground keeps its split only where all of that ground has the same; it takes over the ground's split where the
    ground covers it whole; else it is left out. So no two tiles of different splits ever share ground.

    Args:
        splits: what the new tiles (N) would be by themselves.
        polygons: their footprints (N,).
        taken: footprints (M,) of the tiles that have a split already.
        taken_splits: their splits (M).
    """
    import shapely

    if not len(taken):
        return list(splits)
    own, other = shapely.STRtree(taken).query(polygons)
    shared = shapely.area(shapely.intersection(polygons[own], taken[other]))
    overlaps = shared > TOLERANCE * np.minimum(shapely.area(polygons[own]), shapely.area(taken[other]))
    under: dict[int, list[int]] = {}
    for tile, neighbour in zip(own[overlaps].tolist(), other[overlaps].tolist(), strict=True):
        under.setdefault(tile, []).append(neighbour)
    settled = list(splits)
    for tile, neighbours in under.items():
        found = {taken_splits[neighbour] for neighbour in neighbours}
        if found == {splits[tile]}:
            continue
        covered = shapely.area(shapely.intersection(polygons[tile], shapely.union_all(taken[neighbours])))
        whole = covered >= (1 - TOLERANCE) * shapely.area(polygons[tile])
        settled[tile] = found.pop() if whole and len(found) == 1 else NO_SPLIT
    return settled
