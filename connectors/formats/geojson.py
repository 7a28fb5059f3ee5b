"""GeoJSON (RFC 7946): labels in, detections out, as polygons in WGS 84 longitude and latitude."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.formats import footprints
from connectors.formats.contract import DEFAULTS, NO_SCENES, ReadOptions, Scenes
from connectors.formats.features import FeatureLayer, class_name_of, pick_columns, require_classes
from connectors.formats.ground import place
from connectors.formats.sources import read_json
from engine.errors import BadInput
from engine.files import write_text
from engine.records import LabelFile, SceneDetections

__all__ = ["read", "write"]

Floats = NDArray[np.float64]

DECIMALS = 9
"""of a degree: a tenth of a millimetre"""
PIXEL_NOTE = "The scene has no CRS: coordinates are pixels of the picture, x to the right and y down from its upper left corner."


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:
    """Read a FeatureCollection, see :func:`connectors.formats.ground.place`.

    Coordinates are longitude and latitude, unless the member ``crs`` of the older standard names another coordinate system.

    Raises:
        BadInput: no FeatureCollection, coordinates that are pixels of a picture, or what :func:`connectors.formats.ground.place` refuses.
    """
    document = read_json(path, "a GeoJSON FeatureCollection")
    features = document.get("features")
    if document.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise BadInput(f"{path} is no FeatureCollection", expected='a JSON object with "type": "FeatureCollection" and "features"')
    if "coordinate_note" in document:
        raise BadInput(
            f"{path}: {document['coordinate_note']}", expected="longitude and latitude", remedy="Take the COCO file of that picture instead"
        )
    if not all(isinstance(feature, dict) for feature in features):
        raise BadInput(f"{path}: 'features' is no list of objects", expected="a GeoJSON file")
    rows = [feature.get("properties") if isinstance(feature.get("properties"), dict) else {} for feature in features]
    texts: dict[str, bool] = {}
    for row in rows:
        for column, value in row.items():
            texts[column] = texts.get(column, True) and (value is None or isinstance(value, str))
    columns = pick_columns(path.name, texts, options)
    of_class = [class_name_of(row.get(columns.of_class)) if columns.of_class is not None else options.class_name for row in rows]
    require_classes(path.name, columns, of_class, options)
    layer = FeatureLayer(
        path.name,
        _crs_of(document, path),
        [str(feature.get("id", number))[:80] for number, feature in enumerate(features, start=1)],
        _geometries(features),
        of_class,
    )
    return place([layer], scenes, options, path.resolve().name)


def _crs_of(document: Mapping[str, Any], path: Path) -> str:
    crs = document.get("crs")
    if crs is None:
        return "OGC:CRS84"
    name = crs.get("properties", {}).get("name") if isinstance(crs, dict) and isinstance(crs.get("properties", {}), dict) else None
    if not isinstance(name, str):
        raise BadInput(f"{path}: the member crs is {str(crs)[:120]}", expected='{"type": "name", "properties": {"name": …}}, or none')
    return name


def _geometries(features: list[dict[str, Any]]) -> NDArray[Any]:
    """The geometries, None for one that is missing or no geometry."""
    import shapely

    texts = [json.dumps(feature.get("geometry")) if isinstance(feature.get("geometry"), dict) else None for feature in features]
    found = np.full(len(texts), None, dtype=object)
    found[:] = shapely.force_2d(shapely.from_geojson(np.array(texts, dtype=object), on_invalid="ignore"))
    return found


def write(path: Path, detections: SceneDetections) -> None:
    """Write a FeatureCollection to ``path``, atomically.

    Rings run counterclockwise (section 3.1.6); a polygon over the antimeridian is cut there (section 3.1.9). Each feature has ``class``,
    ``score``, ``area_m2`` and ``box_px``. A scene without a CRS is written in pixels, which is no valid RFC 7946 position: the member
    ``coordinate_note`` at the top says so.

    Raises:
        BadInput: the scene's CRS has no longitude and latitude.
    """
    placed = detections.georeference is not None
    rings = footprints.corners(detections)
    if placed:
        rings = np.round(footprints.to_lon_lat(detections, rings), DECIMALS)
    document: dict[str, Any] = {
        "type": "FeatureCollection",
        "scene": detections.scene,
        "scene_size_px": [detections.width, detections.height],
        "classes": list(detections.label_set.names),
        **({} if placed else {"coordinate_note": PIXEL_NOTE}),
        "features": [
            {"type": "Feature", "id": number, "geometry": _geometry(ring, placed), "properties": properties}
            for number, (ring, properties) in enumerate(zip(rings, _properties(detections), strict=True), start=1)
        ],
    }
    write_text(path, json.dumps(document, allow_nan=False) + "\n")


def _properties(detections: SceneDetections) -> list[dict[str, Any]]:
    boxes = detections.boxes_scene
    names = detections.label_set.names
    return [
        {
            "class": names[label],
            "score": None if boxes.scores is None else float(boxes.scores[row]),
            "area_m2": None if math.isnan(area) else float(area),
            "box_px": boxes.xyxy[row].tolist(),
        }
        for row, (label, area) in enumerate(zip(boxes.labels, footprints.areas(detections), strict=True))
    ]


def _geometry(ring: Floats, placed: bool) -> dict[str, Any]:
    if placed and np.ptp(ring[:, 0]) > 180:
        return {"type": "MultiPolygon", "coordinates": [[_closed(part)] for part in _cut_at_antimeridian(ring)]}
    return {"type": "Polygon", "coordinates": [_closed(ring)]}


def _closed(ring: Floats) -> list[list[float]]:
    """The ring counterclockwise, its first position repeated at the end."""
    x, y = ring.T
    if float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) < 0:
        ring = ring[::-1]
    closed: list[list[float]] = [*ring.tolist(), ring[0].tolist()]
    return closed


def _cut_at_antimeridian(ring: Floats) -> list[Floats]:
    import shapely

    eastward = ring + [360, 0] * (ring[:, :1] < 0)
    polygon = shapely.Polygon(eastward)
    halves = ((shapely.box(0, -90, 180, 90), 0), (shapely.box(180, -90, 360, 90), 360))
    parts = [(polygon.intersection(half), offset) for half, offset in halves]
    return [shapely.get_coordinates(part)[:-1] - [offset, 0] for part, offset in parts if part.area > 0]
