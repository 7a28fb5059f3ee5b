"""Where a raster lies, and how much ground a pixel of it covers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine.records import GeoReference

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

__all__ = ["georeference_of", "ground_sample_distance"]

GCP_TOLERANCE_PX = 0.5


def georeference_of(dataset: Any) -> GeoReference | None:
    """The CRS and affine transform of an open rasterio dataset; None where it has no CRS or no transform.

    Ground control points count where one affine transform meets all of them within half a pixel.
    """
    from rasterio.enums import WktVersion

    crs, transform = dataset.crs, dataset.transform
    if crs is None and dataset.gcps[0]:
        crs, transform = dataset.gcps[1], _affine_of(dataset.gcps[0])
    if not crs or transform is None or transform.is_identity or transform.is_degenerate:
        return None
    return GeoReference(crs.to_wkt(version=WktVersion.WKT2_2019), tuple(transform)[:6])


def _affine_of(gcps: Any) -> Any:
    from rasterio.transform import from_gcps

    if len(gcps) < 3:
        return None
    transform = from_gcps(gcps)
    if transform.is_degenerate:
        return None
    a, b, c, d, e, f = tuple(transform)[:6]
    pixel = math.sqrt(abs(a * e - b * d))
    errors = [
        math.hypot(a * point.col + b * point.row + c - point.x, d * point.col + e * point.row + f - point.y) / pixel for point in gcps
    ]
    return transform if max(errors) <= GCP_TOLERANCE_PX else None


def ground_sample_distance(georeference: GeoReference, width: int, height: int) -> float | None:
    """Metres of ground per pixel at the scene's centre: the geometric mean along columns and rows, on the CRS's ellipsoid.

    So a projection that stretches (Web Mercator away from the equator) is corrected for. A CRS that is not tied to the Earth counts by
    its unit. None where neither is known.
    """
    crs = _crs(georeference.crs_wkt)
    if crs is None:
        return None
    a, b, c, d, e, f = georeference.transform
    to_degrees = _to_degrees(georeference.crs_wkt)
    geod = crs.get_geod()
    if to_degrees is None or geod is None:
        units = [axis.unit_conversion_factor for axis in crs.axis_info[:1]]
        return math.sqrt(abs(a * e - b * d)) * units[0] if units else None
    column, row = width / 2, height / 2
    steps = []
    for across, down in ((0.5, 0.0), (0.0, 0.5)):
        ends = [(column - across, row - down), (column + across, row + down)]
        (lon1, lat1), (lon2, lat2) = (to_degrees.transform(a * x + b * y + c, d * x + e * y + f) for x, y in ends)
        steps.append(geod.inv(lon1, lat1, lon2, lat2)[2] if all(map(math.isfinite, (lon1, lat1, lon2, lat2))) else math.nan)
    distance = math.sqrt(steps[0] * steps[1])
    return distance if math.isfinite(distance) and distance > 0 else None


@lru_cache(maxsize=16)
def _crs(wkt: str) -> CRS | None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_wkt(wkt)
    except CRSError:
        return None


@lru_cache(maxsize=16)
def _to_degrees(wkt: str) -> Transformer | None:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    crs = _crs(wkt)
    if crs is None or crs.geodetic_crs is None:
        return None
    try:
        return Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    except ProjError:
        return None
