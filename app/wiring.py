"""The one file that names a concrete connector: which reader a label file gets, which writer a layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.formats import coco, geojson, geopackage, voc
from engine.errors import BadInput, UsageError
from engine.records import LabelFile, SceneDetections

if TYPE_CHECKING:
    from connectors.label_studio.client import LabelStudioServer
    from engine.catalog.workspace import Workspace

__all__ = [
    "LAYER_SUFFIXES",
    "annotation_server",
    "hub_weights",
    "label_studio",
    "read_labels",
    "require_formats",
    "write_labels",
    "write_layers",
]

LAYER_SUFFIXES = {"gpkg": ".gpkg", "geojson": ".geojson", "coco": ".coco.json"}
"""The formats of ``detect``, each with the end of its files' names."""

_WRITERS: dict[str, Callable[[Path, SceneDetections], None]] = {
    "gpkg": geopackage.write,
    "geojson": geojson.write,
    "coco": lambda path, detections: coco.write(path, detections.as_label_file()),
}


def read_labels(path: Path) -> LabelFile:
    """Read a label file by its kind: ``.json`` is COCO, ``.xml`` or a folder is Pascal VOC.

    Raises:
        BadInput: there is nothing at ``path``, its kind is unknown, or its content cannot be used.
    """
    if not path.exists():
        raise BadInput(f"no label file at {path}", expected="a COCO json, a Pascal VOC xml, or a folder of them", remedy="Check the path")
    if path.is_dir() or path.suffix.lower() == ".xml":
        return voc.read(path)
    if path.suffix.lower() == ".json":
        return coco.read(path)
    raise BadInput(f"the label file {path} ends in {path.suffix!r}", expected=".json (COCO) or .xml (Pascal VOC), or a folder of xml files")


def write_labels(labels: LabelFile, path: Path) -> None:
    """Write ``labels`` to ``path`` as COCO json, atomically."""
    coco.write(path, labels)


def require_formats(formats: str) -> list[str]:
    """The layer formats named in ``formats``, separated by commas, each once.

    Raises:
        UsageError: one of them is not known, or there is none.
    """
    named = list(dict.fromkeys(part.strip().lower() for part in formats.split(",") if part.strip()))
    unknown = [name for name in named if name not in LAYER_SUFFIXES]
    if unknown or not named:
        found = f"the format {unknown[0]!r}" if unknown else "no format"
        raise UsageError(found, expected=f"some of {','.join(LAYER_SUFFIXES)}", remedy="For example --formats gpkg,geojson")
    return named


def write_layers(detections: SceneDetections, folder: Path, formats: list[str]) -> dict[str, Path]:
    """Write ``detections`` below ``folder`` once a format, atomically; returns the file of each."""
    stem = Path(detections.scene).stem
    files = {name: folder / f"{stem}{LAYER_SUFFIXES[name]}" for name in formats}
    for name, file in files.items():
        _WRITERS[name](file, detections)
    return files


def annotation_server(workspace: Workspace) -> LabelStudioServer:
    """The annotation server that ``workspace`` is connected to; nothing is asked of it yet.

    Raises:
        BadInput: it is connected to none.
    """
    from app.connections import Connections

    connection = Connections.load(workspace).label_studio
    if connection is None:
        raise BadInput(
            f"the workspace {workspace.root} is connected to no annotation server",
            remedy="Connect it: tilehawk connect label-studio URL --token-stdin",
        )
    return label_studio(connection.url, connection.token.get_secret_value())


def label_studio(url: str, token: str) -> LabelStudioServer:
    """The Label Studio at ``url``; nothing is asked of it yet.

    Raises:
        BadInput: no address, or one with credentials in it.
    """
    from connectors.label_studio.client import LabelStudioServer

    return LabelStudioServer(url, token)


def hub_weights(name: str) -> tuple[Path, str]:
    """The file of weights ``name`` of timm's hub, and where it comes from.

    Raises:
        BadInput: the hub has no such weights.
        TilehawkError: it cannot be reached.
    """
    from connectors.weights import download

    found = download(name)
    return found.path, found.origin
