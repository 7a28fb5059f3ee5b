"""The outlines of a layer's features as plain corners, and where they lie in the pixels of a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from connectors.formats.features import FeatureLayer
from engine.records import GeoReference, SceneFrame

if TYPE_CHECKING:
    from pyproj import CRS

__all__ = ["Outlines", "outlines_of"]

Floats = NDArray[np.float64]

POINT, LINE, POLYGON, MULTIPOINT, MULTILINE, MULTIPOLYGON = 0, 1, 3, 4, 5, 6
"""Kinds of geometry by shapely's numbers."""
WEB_MERCATOR = "Popular Visualisation Pseudo Mercator"


@dataclass(frozen=True)
class Outlines:
    """N features that can become boxes.

    ``features`` (N,) are their places in the layer; ``corners`` (V, 2) those of all, one feature after the other, in the layer's coordinate
    system; ``starts`` (N + 1,) where each one's begin; ``is_point`` (N,). ``period`` is how far x goes once around the Earth, 0 where it
    does not: x and x + ``period`` are one place then.
    """

    features: NDArray[np.int64]
    corners: Floats
    starts: NDArray[np.int64]
    is_point: NDArray[np.bool_]
    period: float = 0.0

    def in_crs(self, own: CRS, wkt: str) -> Self | None:
        """The same in the coordinate system ``wkt``, infinite where that does not reach; None where no way leads there from ``own``."""
        from pyproj import CRS, Transformer
        from pyproj.exceptions import ProjError

        target = CRS.from_user_input(wkt)
        if own.equals(target, ignore_axis_order=True):
            return replace(self, period=_period(target))
        try:
            x, y = Transformer.from_crs(own, target, always_xy=True).transform(self.corners[:, 0], self.corners[:, 1])
        except ProjError:
            return None
        corners = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=-1)
        return replace(self, corners=corners, period=_period(target))

    def around(self, frame: SceneFrame) -> Self:
        """The same with every corner half a ``period`` from the scene at most, or little more: nothing near it is torn apart.

        Corners move one by one: a polygon that is cut at the antimeridian (RFC 7946, section 3.1.9) or jumps over it is whole again.
        """
        if not self.period:
            return self
        assert frame.georeference is not None
        centre = float(_to_ground(frame.georeference, np.array([[frame.width / 2, frame.height / 2]]))[0, 0])
        quarter = round(4 * centre / self.period)
        if quarter not in self._branches:
            x = self.corners[:, 0]
            turns = np.rint(np.where(np.isfinite(x), x, 0.0) / self.period - quarter / 4)
            moved = replace(self, corners=np.stack([x - turns * self.period, self.corners[:, 1]], axis=-1))
            self._branches[quarter] = moved if turns.any() else self
        return self._branches[quarter]

    @cached_property
    def _branches(self) -> dict[int, Self]:
        """What :meth:`around` found, by the quarter of the period that the scene is next to."""
        return {}

    def near(self, frame: SceneFrame, margin: float) -> NDArray[np.int64]:
        """Which of the features (numbers below N) have bounds that meet the ground of a scene widened by ``margin`` pixels."""
        import shapely

        assert frame.georeference is not None
        sides = np.array([frame.width, frame.height]) + 2 * margin
        ground = _to_ground(frame.georeference, np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * sides - margin)
        rows, tree = self._index
        found: NDArray[np.int64] = rows[np.sort(tree.query(shapely.Polygon(ground)))]
        return found

    @cached_property
    def _index(self) -> tuple[NDArray[np.int64], Any]:
        """The features whose corners are finite, and a tree of their bounds."""
        import shapely

        low = np.minimum.reduceat(self.corners, self.starts[:-1], axis=0)
        bounds = np.concatenate([low, np.maximum.reduceat(self.corners, self.starts[:-1], axis=0)], axis=1)
        rows = np.flatnonzero(np.isfinite(bounds).all(1))
        return rows, shapely.STRtree(shapely.box(*bounds[rows].T))

    def box_px(self, number: int, georeference: GeoReference | None, margin: float) -> Floats:
        """The upright hull (4,) of a feature in the pixels of a scene, in the layer's own units where there is none; a point is widened."""
        corners = self.corners[self.starts[number] : self.starts[number + 1]]
        pixels = corners if georeference is None else _to_pixels(georeference, corners)
        half = margin if self.is_point[number] else 0.0
        return np.concatenate([pixels.min(0) - half, pixels.max(0) + half])


def outlines_of(layer: FeatureLayer) -> tuple[Outlines, dict[int, str]]:
    """The features of a layer that can become boxes, and by its place in the layer why another one cannot."""
    import shapely

    kinds = shapely.get_type_id(layer.geometries)
    is_point = (kinds == POINT) | ((kinds == MULTIPOINT) & (shapely.get_num_geometries(layer.geometries) == 1))
    is_line = np.isin(kinds, (LINE, MULTILINE))
    closed = np.array([bool(shapely.is_closed(shapely.get_parts(line)).all()) for line in layer.geometries[is_line]], dtype=bool)
    corners, owner = shapely.get_coordinates(layer.geometries, return_index=True)
    is_open, is_endless = np.zeros(len(kinds), dtype=bool), np.zeros(len(kinds), dtype=bool)
    is_open[np.flatnonzero(is_line)[~closed]] = True
    is_endless[owner[~np.isfinite(corners).all(1)]] = True
    wrong = (
        (kinds < 0, "it has no geometry that can be read"),
        (shapely.is_empty(layer.geometries), "its geometry is empty"),
        (is_endless, "a coordinate is not a finite number"),
        (~is_point & ~is_line & ~np.isin(kinds, (POLYGON, MULTIPOLYGON)), "its geometry is no outline of one object"),
        (is_open, "its line is not closed"),
        (np.array([name is None for name in layer.classes], dtype=bool), "it has no class"),
    )
    reasons: dict[int, str] = {}
    for rows, reason in wrong:
        for row in np.flatnonzero(rows).tolist():
            reasons.setdefault(row, reason)
    kept = np.array([row for row in range(len(kinds)) if row not in reasons], dtype=np.int64)
    corners, owner = shapely.get_coordinates(layer.geometries[kept], return_index=True)
    return Outlines(kept, corners, np.searchsorted(owner, np.arange(len(kept) + 1)), is_point[kept]), reasons


def _period(crs: CRS) -> float:
    """How far x goes once around the Earth; 0 for a projection that does not go on beyond its edges."""
    if crs.is_geographic:
        return 2 * math.pi / float(crs.axis_info[0].unit_conversion_factor)
    operation = crs.coordinate_operation
    if operation is not None and operation.method_name == WEB_MERCATOR and crs.ellipsoid is not None:
        return 2 * math.pi * float(crs.ellipsoid.semi_major_metre)
    return 0.0


def _to_ground(georeference: GeoReference, pixels: Floats) -> Floats:
    a, b, c, d, e, f = georeference.transform
    x, y = pixels[:, 0], pixels[:, 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def _to_pixels(georeference: GeoReference, points: Floats) -> Floats:
    a, b, c, d, e, f = georeference.transform
    x, y = points[:, 0] - c, points[:, 1] - f
    return np.stack([e * x - b * y, a * y - d * x], axis=-1) / (a * e - b * d)
