"""Labels in and out of a workspace, in any format that the connectors know."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from app.wiring import LABEL_FOLDERS, LABEL_WRITERS, read_labels, write_labels
from connectors.formats.contract import MARK, ReadOptions
from connectors.formats.geopackage import SIDE_FILES
from engine.catalog.lookup import SceneFrames
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, UsageError
from engine.files import sweep_beside
from engine.progress import Progress, silent
from engine.stages.export_labels import LabelExportConfig, WorkspacePictures, collect_labels
from engine.stages.labels import LabelConfig, LabelReport, import_labels

__all__ = ["LabelExportReport", "LabelImportConfig", "export_labels", "import_label_file"]


NAMED = 5
"""Pictures that a warning names; it counts the others."""


class LabelImportConfig(ReadOptions, LabelConfig):
    """How a label file is read, and taken in."""


@dataclass(frozen=True)
class LabelExportReport:
    """What was written.

    ``partly_reviewed`` counts images that may show more objects, ``in_no_split`` those of no split alone. ``warnings`` say what other tools
    may get wrong.
    """

    format: str
    target: Path
    classes: tuple[str, ...]
    images: int
    boxes: int
    partly_reviewed: int
    in_no_split: int
    warnings: tuple[str, ...] = ()


def import_label_file(workspace: Workspace, file: Path, config: LabelImportConfig, *, progress: Progress = silent) -> LabelReport:
    """Read a file, folder or archive of labels, and take them in: all or nothing.

    Raises:
        BadInput: it cannot be read, or does not fit the workspace.
    """
    workspace.temporary.mkdir(exist_ok=True)
    labels = read_labels(file, SceneFrames(workspace), config, scratch=workspace.temporary)
    return import_labels(workspace, labels, config, origin=_origin(workspace, file, config), progress=progress)


def _origin(workspace: Workspace, file: Path, config: LabelImportConfig) -> str:
    """Sixteen hexadecimal digits of the place of a file and what is read of it; none of an upload, whose place is a new one every time."""
    place = file.resolve()
    if place.is_relative_to(workspace.uploads.resolve()):
        return ""
    return hashlib.sha256(repr((str(place), config.layer, config.class_column, config.class_name)).encode()).hexdigest()[:16]


def export_labels(
    workspace: Workspace, written_as: str, target: Path, config: LabelExportConfig, *, progress: Progress = silent
) -> LabelExportReport:
    """Write what is annotated to ``target``, whole or not at all; the workspace is only read.

    What an export to the same target left beside it when it was killed is removed, and what it had not yet replaced is put back.

    Args:
        workspace: whose labels.
        written_as: one of :data:`app.wiring.LABEL_WRITERS`.
        target: a file (COCO without pictures, GeoPackage) or a folder (the others).
        config: see its fields.
        progress: called once an image.

    Raises:
        UsageError: an unknown format, or one that cannot hold what is asked for.
        BadInput: something is at ``target`` already, or it cannot be written.
        NothingToDo: nothing is annotated.
    """
    if written_as not in LABEL_WRITERS:
        raise UsageError(f"the format {written_as!r}", expected=f"one of {', '.join(LABEL_WRITERS)}")
    if written_as == "gpkg" and (config.per == "tile" or config.images != "none"):
        raise UsageError(
            "a GeoPackage of tiles or with pictures", expected="boxes of whole scenes", remedy="Leave --per and --images out, or write COCO"
        )
    _clear_up(target)
    _require_free(target, folder=written_as in LABEL_FOLDERS or config.images != "none", overwrite=config.overwrite)
    collected = collect_labels(workspace, config, progress=progress)
    pictures = nullcontext() if config.images == "none" else WorkspacePictures(workspace, link=config.images == "link")
    with pictures as given:
        try:
            write_labels(written_as, target, collected.labels, given)
        except OSError as failed:
            raise BadInput(f"{target} cannot be written: {failed.strerror}", remedy="Check the path and the disk") from failed
    images = collected.labels.images
    return LabelExportReport(
        format=written_as,
        target=target,
        classes=collected.labels.label_set.names,
        images=len(images),
        boxes=sum(len(image.boxes_scene) for image in images),
        partly_reviewed=collected.partly_reviewed,
        in_no_split=sum(image.split is None for image in images),
        warnings=_warnings([] if given is None else given.turned),
    )


def _warnings(turned: list[str]) -> tuple[str, ...]:
    if not turned:
        return ()
    named = ", ".join(turned[:NAMED]) + (f" and {len(turned) - NAMED} more" if len(turned) > NAMED else "")
    return (f"a camera noted a turn in {named}: tools that follow it see the boxes elsewhere. Take copies, without it (--images copy)",)


def _clear_up(target: Path) -> None:
    try:
        for name in (target.name, *(f"{target.name}{suffix}" for suffix in SIDE_FILES)):
            sweep_beside(target.with_name(name))
    except OSError as failed:
        raise BadInput(
            f"what a killed export left beside {target} cannot be removed: {failed.strerror}", remedy="Check who may write there"
        ) from failed


def _require_free(target: Path, *, folder: bool, overwrite: bool) -> None:
    """Refuse to replace anything but a file where a file is written, or a folder that an earlier export wrote, and those on request."""
    if not target.exists() and not target.is_symlink():
        return
    empty = target.is_dir() and not any(target.iterdir())
    if folder and empty and not target.is_symlink():
        return
    if not overwrite:
        raise BadInput(f"{target} is there already", expected="a new path", remedy="Name another, or replace it (--overwrite)")
    ours = (target / MARK).is_file() and not target.is_symlink() if folder else target.is_file()
    if not ours:
        wanted = f"a folder that an earlier export wrote (with {MARK} in it)" if folder else "a file"
        raise BadInput(f"{target} is not replaced", expected=wanted, remedy="Name another path")
