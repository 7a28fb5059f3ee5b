"""The one file that names a concrete connector: which reader a label file gets, which writer a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from connectors.formats import coco, dota, geojson, geopackage, isaid, shapefile, voc, yolo
from connectors.formats.contract import DEFAULTS, NO_SCENES, Pictures, Reader, ReadOptions, Scenes
from connectors.formats.sniff import located
from connectors.formats.unpack import unpacked
from engine.errors import BadInput, UsageError
from engine.records import LabelFile, SceneDetections

if TYPE_CHECKING:
    from connectors.label_studio.client import LabelStudioServer
    from engine.catalog.workspace import Workspace

__all__ = [
    "LABEL_FOLDERS",
    "LABEL_WRITERS",
    "LAYER_SUFFIXES",
    "annotation_server",
    "hub_weights",
    "label_studio",
    "layer_stem",
    "read_labels",
    "require_formats",
    "write_labels",
    "write_layers",
]

LAYER_SUFFIXES = {"gpkg": ".gpkg", "geojson": ".geojson", "coco": ".coco.json"}
"""The formats of ``detect``, each with the end of its files' names."""

UNSAFE = frozenset('\\/:*?"<>|')
"""Not in the names of layer files: they go to other systems."""
LONGEST_STEM = 180
"""Bytes of a layer file's name that leave room for its end, and for that of a file beside it while it is written."""

_WRITERS: dict[str, Callable[[Path, SceneDetections], None]] = {
    "gpkg": geopackage.write,
    "geojson": geojson.write,
    "coco": lambda path, detections: coco.write(path, detections.as_label_file()),
}


_READERS: Mapping[str, Reader] = {
    "coco": coco.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "dota": dota.read,
    "isaid": isaid.read,
    "gpkg": geopackage.read,
    "geojson": geojson.read,
    "shapefile": shapefile.read,
}

LABEL_WRITERS: Mapping[str, str] = {"coco": ".json", "yolo": "", "voc": "", "gpkg": ".gpkg"}
"""The formats of ``labels export``, each with the end of its file's name, empty for a folder."""
LABEL_FOLDERS = frozenset(name for name, suffix in LABEL_WRITERS.items() if not suffix)
"""Those that are folders whatever lies beside the labels."""


def read_labels(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS, *, scratch: Path | None = None) -> LabelFile:
    """Read labels in the format that ``options`` name, or that their content shows; an archive is looked into.

    The source is the name of ``path``, with the layer where a reader took one of several (``city.gpkg:trees``).

    Args:
        path: a file, a folder, or a zip or tar archive of one.
        scenes: of the workspace, for formats that need sizes or ground.
        options: see its fields.
        scratch: where an archive is unpacked for the while; None for the system's place.

    Raises:
        BadInput: there is nothing at ``path``, its format is unknown, or its content cannot be used.
    """
    try:
        with unpacked(path, scratch) as there:
            kind, file = located(there, options.format)
            labels = _READERS[kind](file, scenes, options)
    except OSError as failed:
        raise BadInput(
            f"{path} cannot be read: {failed.strerror or failed}", remedy="Check the path, who may read it, and the disk"
        ) from failed
    return replace(labels, source=path.resolve().name + labels.source.removeprefix(file.resolve().name))


def write_labels(written_as: str, target: Path, labels: LabelFile, pictures: Pictures | None = None) -> None:
    """Write ``labels`` to ``target``, atomically: COCO with ``pictures`` is a folder, without them a file.

    Args:
        written_as: one of :data:`LABEL_WRITERS`.
        target: file or folder; what is there is replaced.
        labels: images with boxes.
        pictures: of these images, for formats that have a place for them.
    """
    if written_as == "coco" and pictures is not None:
        coco.write_folder(target, labels, pictures)
    elif written_as == "coco":
        coco.write(target, labels)
    elif written_as == "gpkg":
        geopackage.write_labels(target, labels)
    else:
        {"yolo": yolo.write, "voc": voc.write}[written_as](target, labels, pictures)


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


def layer_stem(scene: str) -> str:
    """The name of a scene's layer files without their ends: its own without folders and suffix, made one that every system takes."""
    plain = "".join(char if char.isprintable() and char not in UNSAFE else "_" for char in PurePosixPath(scene).stem)
    return plain.strip(". ").encode()[:LONGEST_STEM].decode("utf-8", "ignore") or "scene"


def write_layers(detections: SceneDetections, folder: Path, formats: list[str]) -> dict[str, Path]:
    """Write ``detections`` below ``folder`` once a format, atomically; returns the file of each.

    Raises:
        BadInput: a file cannot be written there.
    """
    stem = layer_stem(detections.scene)
    files = {name: folder / f"{stem}{LAYER_SUFFIXES[name]}" for name in formats}
    for name, file in files.items():
        try:
            _WRITERS[name](file, detections)
        except OSError as failed:
            raise BadInput(
                f"the layer {file} cannot be written: {failed.strerror or failed}",
                remedy="Check the folder, who may write to it, and the disk",
            ) from failed
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
