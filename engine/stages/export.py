"""``export``: a fine-tuned model as ONNX, proved equal on the workspace's own tiles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field

from engine.catalog import ledger
from engine.catalog.annotations import label_set
from engine.catalog.models import exports_directory, get_model, model_directory, models
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.deploy.export import ExportOptions, Precision, export_detector
from engine.deploy.graph import Target
from engine.deploy.parity import Parity
from engine.deploy.runtime import available_threads
from engine.errors import NothingToDo, UsageError
from engine.models.store import load_detector
from engine.progress import Progress, silent

__all__ = ["ExportConfig", "ExportReport", "export"]


class ExportConfig(StageConfig):
    """What is exported."""

    model: str | None = None
    """The fine-tuned model; none for the newest."""
    name: str | None = None
    """Name of the folder below exports/; none for the model's."""
    target: Target = "onnxruntime"
    """Where it will run. tensorrt: deformable attention without GridSample, which some versions of TensorRT compute wrong."""
    precision: Precision = "fp32"
    """fp16: convolutions and matrix products in half precision, for a GPU; images, boxes and scores stay float32."""
    one_shot: bool | None = None
    """Whether a second graph is written, which looks for what a patch shows; none: where there is a one-shot model, or the model started
    from a pre-trained one, whose query slots have learned that."""
    one_shot_model: str | None = None
    """The model of the second graph; none for the newest one-shot model, or for the exported model's slots where there is none."""
    patch_size: int = Field(default=64, ge=32)
    """Side of the patches that it takes, in pixels; as in pre-training."""
    parity_tiles: int = Field(default=8, ge=1)
    """Tiles on which torch and ONNX Runtime are compared, spread over the workspace."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of ONNX Runtime; 0 for all cores."""


@dataclass(frozen=True)
class ExportReport:
    """Where the exported model lies, and how near it is to the original."""

    export: str
    directory: str
    model: str
    bytes: int
    parity: Parity
    one_shot: Parity | None
    """of the graph that looks for a patch; none where none was asked for"""


def export(workspace: Workspace, config: ExportConfig, *, progress: Progress = silent) -> ExportReport:
    """Export a fine-tuned model; an export of the same name is replaced as a whole, but for the layers that were found with it.

    Raises:
        BadInput: no such model, or a name that cannot be a folder's.
        NothingToDo: no tile to compare the runtimes on.
        LabelSetMismatch: the model speaks of other classes than the workspace.
        CheckpointRefused: the model is damaged.
        UsageError: the target does not compute this architecture, or the one-shot model sees tiles of another size.
        ParityError: the exported model computes something else; nothing is left behind.
    """
    with workspace.worker_lock("export"):
        with workspace.session(write=False) as session:
            row = get_model(session, config.model, stage="finetune")
            finders = models(session, stage="one-shot")
            asked = get_model(session, config.one_shot_model, stage="one-shot") if config.one_shot_model or finders else None
            classes = label_set(session)
            known = tiles(session)
        name = config.name or row.name
        directory = exports_directory(workspace, name)
        if not known:
            raise NothingToDo("there is no tile to compare the runtimes on", remedy="Take imagery in: tilehawk ingest ARCHIVE_OR_FOLDER")
        progress(0, 3, "reading the model")
        model, stored = load_detector(model_directory(workspace, row.name), label_set=classes, stage="finetune")
        spread = known[:: max(len(known) // config.parity_tiles, 1)][: config.parity_tiles]
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, spread, {}, stored.config.image_size)
            images = torch.stack([source.image(index) for index in range(len(spread))])
        progress(1, 3, "writing the graph and comparing")
        threads = config.threads or available_threads()
        one_shot = bool(asked or row.parent_id is not None) if config.one_shot is None else config.one_shot
        finder = load_detector(model_directory(workspace, asked.name), stage="one-shot")[0] if one_shot and asked else None
        size = stored.config.image_size
        if asked and finder and finder.config.image_size != size:
            raise UsageError(
                f"the one-shot model {asked.name!r} for tiles of {finder.config.image_size} px beside {row.name!r} for tiles of {size} px",
                expected="two models for tiles of one size",
                remedy="Set one_shot to false, or train a one-shot model of this size",
            )
        options = ExportOptions(config.target, config.precision, config.patch_size if one_shot else None)
        done = export_detector(model, classes, images, directory, model=row.name, threads=threads, options=options, finder=finder)
        progress(2, 3, "registering")
        with workspace.session() as session:
            ledger.record(
                session, "export", model=row.name, export=name, target=config.target, precision=config.precision, parity=done.detector.worst
            )
        taken = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
        progress(3, 3, "done")
        return ExportReport(name, str(directory.relative_to(workspace.root.resolve())), row.name, taken, done.detector, done.one_shot)
