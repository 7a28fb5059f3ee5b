"""GeoPackage: detections as polygons in the scene's own CRS, for any GIS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectors.formats import footprints
from engine.errors import BadInput, UsageError
from engine.files import atomic_file
from engine.records import SceneDetections

__all__ = ["LAYER", "write"]

LAYER = "detections"
UNDEFINED_CARTESIAN = (
    'ENGCRS["Undefined Cartesian SRS",EDATUM["Unknown engineering datum"],CS[Cartesian,2],'
    'AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],AXIS["(N)",north,ORDER[2],LENGTHUNIT["metre",1]]]'
)
"""What the GeoPackage standard calls spatial reference system -1: plain x and y."""
SIDE_FILES = ("-journal", "-wal", "-shm")


def write(path: Path, detections: SceneDetections, *, layer: str = LAYER) -> None:
    """Write one layer of polygons to ``path``, atomically; a file that is there is replaced.

    Columns: ``id`` (from 1, by the order of the boxes), ``class``, ``score``, ``area_m2`` on the ground, and ``x1_px``, ``y1_px``,
    ``x2_px``, ``y2_px`` in scene pixels. A scene without a CRS is written in pixels, x to the right and y **down**, with the undefined
    Cartesian reference system and no area.

    Raises:
        UsageError: the name of ``path`` does not end in ``.gpkg``, as the standard wants it.
        BadInput: GDAL cannot write there, or cannot use the scene's CRS.
    """
    import pyogrio.raw
    import shapely
    from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError

    path = Path(path)
    if path.suffix.lower() != ".gpkg":
        raise UsageError(f"a GeoPackage named {path.name!r}", expected="a name that ends in .gpkg")
    boxes = detections.boxes_scene
    polygons = shapely.polygons(footprints.corners(detections))
    names = np.array(detections.label_set.names, dtype=object)
    columns = {
        "id": np.arange(1, len(boxes) + 1),
        "class": names[boxes.labels],
        "score": np.full(len(boxes), np.nan) if boxes.scores is None else boxes.scores,
        "area_m2": footprints.areas(detections),
        **dict(zip(("x1_px", "y1_px", "x2_px", "y2_px"), np.ascontiguousarray(boxes.xyxy.T), strict=True)),
    }
    with atomic_file(path) as temporary:
        try:
            pyogrio.raw.write(
                temporary,
                shapely.to_wkb(polygons),
                list(columns.values()),
                list(columns),
                layer=layer,
                driver="GPKG",
                geometry_type="Polygon",
                crs=detections.georeference.crs_wkt if detections.georeference else UNDEFINED_CARTESIAN,
                promote_to_multi=False,
            )
        except (CRSError, DataLayerError, DataSourceError, FeatureError) as refused:
            raise BadInput(
                f"the GeoPackage {path} cannot be written: {refused}", remedy="Check the folder and the scene's CRS"
            ) from refused
        finally:
            for suffix in SIDE_FILES:
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
