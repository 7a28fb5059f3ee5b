"""What can be downloaded, always by a name that the catalog or a listing of ours knows: exported models, layers, labels."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from connectors.formats.unpack import PREFIX
from engine.catalog import ledger
from engine.catalog.models import exports_directory
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

__all__ = ["Download", "find", "sweep_scratch"]

LAYERS = "layers"
"""The folder of an export's layers, below it."""
MODEL_FILE = "model.onnx"
DOWNLOADS = "downloads"
"""Below ``temporary/``."""
LEFT_SECONDS = 86400.0


@dataclass(frozen=True)
class Download:
    """Something to download: the name it is saved under, and how its file comes to be, for as long as it is sent."""

    filename: str
    file: Callable[[], AbstractContextManager[Path]]


def find(workspace: Workspace, kind: str, name: str) -> Download:
    """The download of that kind and name.

    Args:
        workspace: whose.
        kind: ``exports``: a model's folder as zip by its name, its bare network as ``NAME.onnx``; ``layers``: what one found, as zip by
            its name; ``labels``: the accepted boxes as ``coco.json`` or ``gpkg``, or as the folder ``yolo.zip`` or ``voc.zip``.
        name: never made a path: it is looked for among the names that there are.

    Raises:
        BadInput: there is none.
    """
    makers = {"exports": _exports, "layers": _layers, "labels": _labels}
    found = makers[kind](workspace).get(name) if kind in makers else None
    if found is None:
        raise BadInput(f"nothing to download as {kind}/{name}", expected="something that the page Export shows", remedy="Look there")
    return found


def _exports(workspace: Workspace) -> dict[str, Download]:
    found = {}
    for name, folder in _exported(workspace):
        found[name] = Download(f"{name}.zip", partial(_zipped, workspace, folder, without=LAYERS))
        found[f"{name}.onnx"] = Download(f"{name}.onnx", partial(_there, folder / MODEL_FILE))
    return found


def _layers(workspace: Workspace) -> dict[str, Download]:
    return {
        name: Download(f"{name}-layers.zip", partial(_zipped, workspace, folder / LAYERS))
        for name, folder in _exported(workspace)
        if (folder / LAYERS).is_dir()
    }


def _labels(workspace: Workspace) -> dict[str, Download]:
    return {
        "coco.json": Download("labels.coco.json", partial(_written_labels, workspace, "coco")),
        "gpkg": Download("labels.gpkg", partial(_written_labels, workspace, "gpkg")),
        "yolo.zip": Download("labels-yolo.zip", partial(_written_labels, workspace, "yolo")),
        "voc.zip": Download("labels-voc.zip", partial(_written_labels, workspace, "voc")),
    }


def _exported(workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """The exported models that the catalog knows and that are still there."""
    with workspace.session(write=False) as session:
        names = dict.fromkeys(str(event.details["export"]) for event in ledger.events(session, "export"))
    for name in names:
        folder = exports_directory(workspace, name)
        if (folder / MODEL_FILE).is_file():
            yield name, folder


def sweep_scratch(workspace: Workspace, *, now: float | None = None) -> None:
    """Remove what lies for a day in ``temporary/`` where downloads are packed and labels unpacked: its process was killed."""
    moment = time.time() if now is None else now
    for path in [*workspace.temporary.glob(f"{PREFIX}*"), *(workspace.temporary / DOWNLOADS).glob("*")]:
        with suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink() and moment - path.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _there(file: Path) -> Iterator[Path]:
    yield file


@contextmanager
def _zipped(workspace: Workspace, folder: Path, *, without: str = "") -> Iterator[Path]:
    """``folder`` as a zip, links and what begins with a dot left out."""
    with _scratch(workspace) as scratch:
        target = scratch / "files.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                parts = file.relative_to(folder).parts
                if file.is_file() and not file.is_symlink() and parts[0] != without and not any(part.startswith(".") for part in parts):
                    archive.write(file, Path(folder.name, *parts))
        yield target


@contextmanager
def _written_labels(workspace: Workspace, written_as: str) -> Iterator[Path]:
    from app.wiring import LABEL_FOLDERS, LABEL_WRITERS, write_labels
    from engine.stages.export_labels import LabelExportConfig, collect_labels

    labels = collect_labels(workspace, LabelExportConfig()).labels
    with _scratch(workspace) as scratch:
        target = scratch / f"labels{LABEL_WRITERS[written_as]}"
        write_labels(written_as, target, labels)
        if written_as not in LABEL_FOLDERS:
            yield target
            return
        with _zipped(workspace, target) as packed:
            yield packed


@contextmanager
def _scratch(workspace: Workspace) -> Iterator[Path]:
    folder = workspace.temporary / DOWNLOADS
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        yield Path(made)
