"""Commands that take a detector out into the world: export, detect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.output import emit
from app.cli.progress import job
from app.cli.stage import run_stage
from app.settings import find_workspace
from engine.errors import BadInput

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(export)
    app.command()(detect)


def export(
    *,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The fine-tuned model; else the newest.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the export; else the model's.", show_default=False)] = None,
    target: Annotated[str | None, typer.Option(help="onnxruntime or tensorrt.", show_default="onnxruntime")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or fp16.", show_default="fp32")] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as ONNX, refused unless it computes what the original computes."""
    from engine.stages.export import ExportConfig

    run_stage(
        "export",
        configured(ExportConfig, config, settings, model=model, name=name, target=target, precision=precision),
        workspace=workspace,
        as_json=as_json,
        no_queue=no_queue,
    )


def detect(
    model: Annotated[str, typer.Argument(metavar="EXPORT", help="An exported folder, or the name of one in the workspace.")],
    scene: Annotated[Path, typer.Argument(help="The picture to search: JPEG, PNG or GeoTIFF of any size.")],
    *,
    out_dir: Annotated[Path, typer.Option(help="Where the layers go.")] = Path("detections"),
    formats: Annotated[str, typer.Option(help="Layers to write, separated by commas: gpkg, geojson, coco.")] = "gpkg,geojson",
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the objects of a scene and write them as GIS layers, in the scene's own coordinate system."""
    from app.wiring import require_formats, write_layers
    from engine.stages.detect import DetectConfig
    from engine.stages.detect import detect as stage

    named = require_formats(formats)
    chosen = configured(DetectConfig, config, settings)
    folder = _exported(model, workspace)
    with job() as progress:
        found = stage(folder, scene, chosen, progress=progress)
        files = write_layers(found, out_dir, named)
    classes = Counter(found.label_set.names[label] for label in found.boxes_scene.labels.tolist())
    report = {
        "scene": scene,
        "export": folder,
        "width": found.width,
        "height": found.height,
        "georeferenced": found.georeference is not None,
        "boxes": len(found.boxes_scene),
        "classes": {name: classes[name] for name in found.label_set.names},
        "files": files,
    }
    emit(report, as_json=as_json)


def _exported(model: str, workspace: Path | None) -> Path:
    """The exported folder that ``model`` means: a path, or a name below ``exports/`` of the workspace.

    Raises:
        BadInput: it is neither.
    """
    from engine.catalog.workspace import MARKER
    from engine.files import inside

    if Path(model).is_dir():
        return Path(model)
    root = find_workspace(workspace)
    exports = root / "exports"
    if (root / MARKER).is_file() and inside(exports, model).is_dir():
        return inside(exports, model)
    known = sorted(path.name for path in exports.iterdir() if path.is_dir()) if exports.is_dir() else []
    raise BadInput(
        f"no exported model {model!r}",
        expected=f"a folder, or one of {known}" if known else "a folder that tilehawk export wrote",
        remedy="Make one: tilehawk export",
    )
