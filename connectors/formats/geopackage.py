"""GeoPackage: boxes as polygons in the scenes' own CRS, for any GIS; labels out and in, detections out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from connectors.formats import footprints
from connectors.formats.contract import DEFAULTS, NO_SCENES, ReadOptions, Scenes
from connectors.formats.features import PIXEL_COLUMNS
from connectors.formats.ground import place
from connectors.formats.layers import columns_of, layer_names, read_layer, safely_named
from engine.errors import BadInput, UsageError
from engine.files import atomic_file
from engine.records import ImageLabels, LabelFile, SceneDetections

__all__ = ["APPLICATION_IDS", "LABELS", "LABELS_IN_PIXELS", "LAYER", "SIDE_FILES", "read", "write", "write_labels"]

APPLICATION_IDS = (b"GPKG", b"GP10", b"GP11")
"""What a GeoPackage has at byte 68, where other SQLite files have something else."""
LAYER = "detections"
LABELS, LABELS_IN_PIXELS = "labels", "labels_pixels"
"""Layers of labels: those on the ground (with the CRS in the name where there are several), and those of plain pictures."""
UNDEFINED_CARTESIAN = (
    'ENGCRS["Undefined Cartesian SRS",EDATUM["Unknown engineering datum"],CS[Cartesian,2],'
    'AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],AXIS["(N)",north,ORDER[2],LENGTHUNIT["metre",1]]]'
)
"""What the GeoPackage standard calls spatial reference system -1: plain x and y."""
REMEDY = "Check that the disk has room and the folder may be written to; else the scene's CRS"
SIDE_FILES = ("-journal", "-wal", "-shm")
"""What SQLite adds to the name of a file for those that it keeps beside it."""


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:
    """Read the one layer of a GeoPackage, the one that ``options`` name, or all of them where they are ours; see :func:`place`.

    One layer of several is a source of its own, ``FILE.gpkg:LAYER``.

    Raises:
        BadInput: several layers and none named, no layer of that name, or what :func:`connectors.formats.ground.place` refuses.
    """
    with safely_named(path, (".gpkg", ".gpkg-wal", ".gpkg-shm")) as file:
        names = layer_names(file, path.name)
        chosen = _chosen(names, file, path.name, options)
        layers = [read_layer(file, name, f"{path.name}, layer {name}", options) for name in chosen]
    return place(layers, scenes, options, path.resolve().name + (f":{chosen[0]}" if len(chosen) < len(names) else ""))


def _chosen(names: Sequence[str], file: Path, shown: str, options: ReadOptions) -> list[str]:
    if options.layer is not None and options.layer not in names:
        raise BadInput(f"{shown} has no layer {options.layer!r}", expected=f"one of {list(names)}", remedy="Name one of them (--layer)")
    if options.layer is not None or len(names) == 1:
        return [options.layer or names[0]]
    ours = {"scene", *PIXEL_COLUMNS}
    if names and all(ours <= set(columns_of(file, name, shown)) for name in names):
        return list(names)
    found = f"the layers {', '.join(names)}" if names else "no layer with geometries"
    raise BadInput(f"{shown} has {found}", expected="one layer of labels", remedy="Name it (--layer)" if names else "")


def write(path: Path, detections: SceneDetections, *, layer: str = LAYER) -> None:
    """Write one layer of polygons to ``path``, atomically; a file that is there is replaced.

    Columns: ``id`` (from 1, by the order of the boxes), ``class``, ``score``, ``area_m2`` on the ground, and ``x1_px``, ``y1_px``,
    ``x2_px``, ``y2_px`` in scene pixels. A scene without a CRS is written in pixels, x to the right and y **down**, with the undefined
    Cartesian reference system and no area.

    Raises:
        UsageError: the name of ``path`` does not end in ``.gpkg``, as the standard wants it.
        BadInput: GDAL cannot write there, or cannot use the scene's CRS.
    """
    boxes = detections.boxes_scene
    scores = np.full(len(boxes), np.nan) if boxes.scores is None else boxes.scores
    columns = {"id": np.arange(1, len(boxes) + 1), **_columns([detections], {"score": scores})}
    with _new(path) as temporary:
        _write_layer(temporary, path, layer, [detections], columns)
        _require_whole(temporary, path, {layer: len(boxes)})


def write_labels(path: Path, labels: LabelFile) -> None:
    """Write labels to ``path``, atomically; a file that is there is replaced.

    A layer for each CRS: ``labels``, with the CRS in its name where there are several (``labels_epsg_32617``). Columns: ``scene``,
    ``class``, ``area_m2`` and the box in scene pixels, as in :func:`write`. Boxes of plain pictures are in the layer ``labels_pixels``, in
    pixels as :func:`write` has them. :func:`read` brings all layers back. An image without boxes leaves nothing.

    Raises:
        UsageError: the name of ``path`` does not end in ``.gpkg``.
        BadInput: no box at all, or GDAL cannot write there, or cannot use a CRS.
    """
    by_layer: dict[str, list[SceneDetections]] = {}
    names = _layer_by_crs([image for image in labels.images if len(image.boxes_scene)])
    for image in labels.images:
        if len(image.boxes_scene):
            wkt = image.georeference.crs_wkt if image.georeference else None
            of_scene = SceneDetections(image.image, image.width, image.height, image.georeference, labels.label_set, image.boxes_scene)
            by_layer.setdefault(names[wkt], []).append(of_scene)
    if not by_layer:
        raise BadInput(
            "there is no box to write", expected="one at least: a GeoPackage holds boxes alone", remedy="Write COCO, YOLO or VOC"
        )
    with _new(path) as temporary:
        for layer, scenes in by_layer.items():
            owners = [name for scene in scenes for name in [scene.scene] * len(scene.boxes_scene)]
            _write_layer(temporary, path, layer, scenes, {"scene": np.array(owners, dtype=object), **_columns(scenes, {})})
        counts = {layer: sum(len(scene.boxes_scene) for scene in scenes) for layer, scenes in by_layer.items()}
        _require_whole(temporary, path, counts)


def _layer_by_crs(images: Sequence[ImageLabels]) -> dict[str | None, str]:
    """The layer of every CRS, by its WKT; None stands for pixels."""
    from pyproj import CRS

    known = list(dict.fromkeys(image.georeference.crs_wkt for image in images if image.georeference))
    found: dict[str | None, str] = {None: LABELS_IN_PIXELS}
    for number, wkt in enumerate(known, start=1):
        authority = CRS.from_user_input(wkt).to_authority()
        ending = "_".join(authority).lower() if authority else f"crs_{number}"
        ending = ending if f"{LABELS}_{ending}" not in found.values() else f"crs_{number}"
        found[wkt] = LABELS if len(known) == 1 else f"{LABELS}_{ending}"
    return found


def _columns(scenes: Sequence[SceneDetections], more: Mapping[str, Any]) -> dict[str, Any]:
    """Class, ``more``, area and box of every box of the scenes."""
    boxes = np.concatenate([scene.boxes_scene.xyxy for scene in scenes])
    return {
        "class": np.concatenate([np.array(scene.label_set.names, dtype=object)[scene.boxes_scene.labels] for scene in scenes]),
        **more,
        "area_m2": np.concatenate([footprints.areas(scene) for scene in scenes]),
        **dict(zip(PIXEL_COLUMNS, np.ascontiguousarray(boxes.T), strict=True)),
    }


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """A temporary file that becomes ``path``; what SQLite leaves beside it is removed."""
    path = Path(path)
    if path.suffix.lower() != ".gpkg":
        raise UsageError(f"a GeoPackage named {path.name!r}", expected="a name that ends in .gpkg")
    with atomic_file(path) as temporary:
        try:
            yield temporary
        finally:
            for suffix in SIDE_FILES:
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)


def _write_layer(temporary: Path, path: Path, layer: str, scenes: Sequence[SceneDetections], columns: Mapping[str, Any]) -> None:
    """Write the boxes of scenes of one CRS as a layer, beside those that ``temporary`` has; ``path`` is for messages."""
    import pyogrio.raw
    import shapely
    from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError

    georeference = scenes[0].georeference
    polygons = shapely.polygons(np.concatenate([footprints.corners(scene) for scene in scenes]))
    try:
        pyogrio.raw.write(
            temporary,
            shapely.to_wkb(polygons),
            list(columns.values()),
            list(columns),
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            crs=georeference.crs_wkt if georeference else UNDEFINED_CARTESIAN,
            promote_to_multi=False,
        )
    except (CRSError, DataLayerError, DataSourceError, FeatureError) as refused:
        raise BadInput(f"the GeoPackage {path} cannot be written: {refused}", remedy=REMEDY) from refused


def _require_whole(temporary: Path, path: Path, counts: Mapping[str, int]) -> None:
    """Refuse a file that lacks boxes or the spatial index of a layer: GDAL says nothing of what it could not write when it closed it."""
    try:
        with closing(sqlite3.connect(f"{temporary.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            for layer, count in counts.items():
                for table in (layer, f"rtree_{layer}_geom_rowid"):
                    quoted = table.replace('"', '""')
                    (found,) = opened.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608 - a name cannot be bound
                    if found != count:
                        raise BadInput(
                            f"the GeoPackage {path} cannot be written whole: {found} rows in {table}", expected=str(count), remedy=REMEDY
                        )
    except sqlite3.DatabaseError as broken:
        raise BadInput(f"the GeoPackage {path} cannot be written whole: {broken}", remedy=REMEDY) from broken
