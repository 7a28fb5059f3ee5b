"""Every scene of the workspace searched with an exported model, and what it found written as GIS layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from app.downloads import LAYERS
from app.wiring import layer_stem, require_formats, write_layers
from engine.catalog import ledger
from engine.catalog.models import exports, exports_directory
from engine.catalog.schema import Scene
from engine.catalog.tiles import scene_file
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo
from engine.progress import Progress, silent
from engine.stages.detect import DetectConfig, detect

__all__ = ["LayersConfig", "write_scene_layers"]


class LayersConfig(DetectConfig):
    """Which scenes are searched with which exported model, and what is written; the rest is said by the search itself."""

    export: str | None = None
    """The exported model; none for the newest."""
    scenes: tuple[int, ...] = ()
    """Ids of the scenes; none for all."""
    formats: str = "gpkg,geojson"
    """Layers to write, separated by commas: gpkg, geojson, coco."""
    limit: int = Field(default=10_000, ge=1)
    """The most scenes of one call."""


def write_scene_layers(workspace: Workspace, config: LayersConfig, *, progress: Progress = silent) -> dict[str, Any]:
    """Search the scenes one after the other; each scene's layers are written whole, and a stopped call leaves those that are done.

    Raises:
        BadInput: no such export, or no such scene.
        NothingToDo: no scene, or no exported model.
        UsageError: an unknown format.
    """
    named = require_formats(config.formats)
    with workspace.worker_lock("layers"):
        known = exports(workspace)
        if not known:
            raise NothingToDo("no model has been exported", remedy="Export one first: tilehawk export")
        name = config.export or known[-1]
        if name not in known:
            raise BadInput(f"no exported model {name!r}", expected=f"one of {known}", remedy="Export it: tilehawk export")
        with workspace.session(write=False) as session:
            rows = [row for row in session.query(Scene).order_by(Scene.id) if not config.scenes or row.id in config.scenes][: config.limit]
        if missing := sorted(set(config.scenes) - {row.id for row in rows}):
            raise BadInput(
                f"no scene {missing[0]}", remedy="Take the number from the address of its page: click its name on the page Imagery"
            )
        if not rows:
            raise NothingToDo("there is no scene to search", remedy="Take imagery in: tilehawk ingest ARCHIVE_OR_FOLDER")
        model = exports_directory(workspace, name)
        search = DetectConfig(**{field: getattr(config, field) for field in DetectConfig.model_fields if field in config.model_fields_set})
        boxes, files = 0, []
        for number, row in enumerate(rows):
            found = detect(model, scene_file(workspace, row), search, progress=_part(progress, number, len(rows), row.name))
            folder = model / LAYERS / f"{row.id}-{layer_stem(row.name)[:60]}"
            folder.mkdir(parents=True, exist_ok=True)
            files += [str(path.relative_to(model)) for path in write_layers(replace(found, scene=row.name), folder, named).values()]
            boxes += len(found.boxes_scene)
        progress(len(rows), len(rows), "done")
        with workspace.session() as session:
            ledger.record(session, "layers", export=name, scenes=len(rows), boxes=boxes)
    return {"export": name, "scenes": len(rows), "boxes": boxes, "files": files}


def _part(progress: Progress, number: int, scenes: int, name: str) -> Progress:
    def report(done: int, total: int, message: str) -> None:  # noqa: ARG001 - the scene says more
        share = f" ({100 * done // total} %)" if total else ""
        progress(number, scenes, f"searching {name}{share}")

    return report
