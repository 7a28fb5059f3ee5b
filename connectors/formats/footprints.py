"""Boxes of a scene as polygons on the ground, for every vector format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.records import GeoReference, SceneDetections

if TYPE_CHECKING:
    from pyproj import CRS, Geod, Transformer

__all__ = ["areas", "corners", "to_lon_lat"]

Floats = NDArray[np.float64]


def corners(detections: SceneDetections) -> Floats:
    """Corners (N, 4, 2) as x, y in the scene's CRS, or in pixels where it has none.

    In the order upper left, upper right, lower right, lower left of the picture.
    """
    x1, y1, x2, y2 = detections.boxes_scene.xyxy.T
    pixels = np.stack([np.stack([x1, y1], 1), np.stack([x2, y1], 1), np.stack([x2, y2], 1), np.stack([x1, y2], 1)], axis=1)
    return _on_ground(detections.georeference, pixels)


def areas(detections: SceneDetections) -> Floats:
    """Areas (N,) on the ground in square metres; NaN where the scene has no CRS.

    Width times height through the middle of each box, measured on the CRS's ellipsoid, so that a projection that stretches is corrected
    for; times the sine of the angle between them, for transforms that shear. A CRS not tied to the Earth counts by its unit.
    """
    georeference = detections.georeference
    if georeference is None:
        return np.full(len(detections.boxes_scene), np.nan)
    crs = _crs(georeference)
    x1, y1, x2, y2 = detections.boxes_scene.xyxy.T
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    pixels = np.stack([np.stack(point, 1) for point in ((x1, middle_y), (x2, middle_y), (middle_x, y1), (middle_x, y2))], axis=1)
    ground = _on_ground(georeference, pixels)
    geod = crs.get_geod()
    if crs.geodetic_crs is None or geod is None:
        across, down = ground[:, 1] - ground[:, 0], ground[:, 3] - ground[:, 2]
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else math.nan
        return np.abs(across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]) * unit**2
    lon, lat = np.moveaxis(_transformed(_transformer(crs, crs.geodetic_crs), ground, detections), -1, 0)
    azimuth_across, width = _inverse(geod, lon[:, 0], lat[:, 0], lon[:, 1], lat[:, 1])
    azimuth_down, height = _inverse(geod, lon[:, 2], lat[:, 2], lon[:, 3], lat[:, 3])
    return np.asarray(width * height * np.abs(np.sin(np.radians(azimuth_down - azimuth_across))), dtype=np.float64)


def _inverse(geod: Geod, *degrees: Floats) -> tuple[Floats, Floats]:
    """Azimuth (degrees) and distance (metres) of pairs of points; as lists, for pyproj takes an array of one for a number."""
    azimuth, _, distance = geod.inv(*(values.tolist() for values in degrees))
    return np.asarray(azimuth, dtype=np.float64), np.asarray(distance, dtype=np.float64)


def to_lon_lat(detections: SceneDetections, points: Floats) -> Floats:
    """``points`` (..., 2) in the scene's CRS as WGS 84 longitude in [-180, 180] and latitude, in degrees.

    Raises:
        BadInput: the CRS cannot be tied to the Earth, or a point lies outside of where it is valid.
    """
    assert detections.georeference is not None
    degrees = _transformed(_transformer(_crs(detections.georeference), "OGC:CRS84"), points, detections)
    longitude = degrees[..., 0]
    degrees[..., 0] = np.where(np.abs(longitude) > 180, (longitude + 180) % 360 - 180, longitude)
    return degrees


def _on_ground(georeference: GeoReference | None, pixels: Floats) -> Floats:
    if georeference is None:
        return pixels
    a, b, c, d, e, f = georeference.transform
    x, y = pixels[..., 0], pixels[..., 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def _crs(georeference: GeoReference) -> CRS:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_wkt(georeference.crs_wkt)
    except CRSError as unknown:
        raise BadInput(
            f"the scene's CRS is not understood: {georeference.crs_wkt[:120]!r}", remedy="Assign it a known CRS with gdal_edit"
        ) from unknown


def _transformer(source: CRS, target: CRS | str) -> Transformer:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as apart:
        raise BadInput(f"the CRS {source.name!r} has no longitude and latitude", remedy="Write a GeoPackage, it keeps the CRS") from apart


def _transformed(transformer: Transformer, points: Floats, detections: SceneDetections) -> Floats:
    x, y = transformer.transform(points[..., 0], points[..., 1])
    degrees = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=-1)
    if not np.isfinite(degrees).all():
        raise BadInput(
            f"{detections.scene!r} has boxes outside of where its CRS is valid",
            expected="a CRS and transform that fit",
            remedy="Check the scene's georeference",
        )
    return degrees
