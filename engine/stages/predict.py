"""``predict``: what a model sees on the tiles, kept as Parquet and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from engine.catalog import ledger
from engine.catalog.annotations import label_set
from engine.catalog.models import get_model, model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.inference.predict import predict_tiles
from engine.models.store import load_detector
from engine.progress import Progress, silent

__all__ = ["PredictConfig", "PredictReport", "predict"]


class PredictConfig(StageConfig):
    """What is looked at, and what of the answers is kept."""

    model: str | None = None
    """The model; none for the newest."""
    split: Literal["train", "dev", "test", "all"] = "all"
    """Tiles of which split."""
    name: str | None = None
    """Name of the prediction set; none for MODEL-SPLIT."""
    score_threshold: float = Field(default=0.01, ge=0, le=1)
    """Boxes with a lower score are dropped."""
    iou_threshold: float = Field(default=0.5, gt=0, le=1)
    """Of two boxes of one class that overlap more, the weaker is dropped; 1 keeps both."""
    split_saturated: bool = True
    """Look at a tile in which nearly every query answers in enlarged quarters too: it may hold more objects than there are queries."""
    batch_size: int = Field(default=8, ge=1)
    """Tiles a forward pass."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's own choice."""


@dataclass(frozen=True)
class PredictReport:
    """What was seen."""

    predictions: str
    model: str
    split: str
    tiles: int
    boxes: int
    """above the score threshold; 0 for a pre-trained model, which gives embeddings alone"""


def predict(workspace: Workspace, config: PredictConfig, *, progress: Progress = silent) -> PredictReport:
    """Run a model over tiles; a set of the same name is replaced as a whole.

    Raises:
        NothingToDo: no tile in that split.
        BadInput: no such model, or a name that cannot be a folder's.
        LabelSetMismatch: the model speaks of other classes than the workspace.
        CheckpointRefused: the model is damaged.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with workspace.worker_lock("predict"):
        with workspace.session(write=False) as session:
            row = get_model(session, config.model)
            classes = label_set(session) if row.label_set_fingerprint else None
            wanted = tiles(session, split=None if config.split == "all" else config.split)
        name = config.name or f"{row.name}-{config.split}"
        directory = predictions_directory(workspace, name)
        if not wanted:
            raise NothingToDo(
                f"there is no tile in the split {config.split!r}", remedy="Take imagery in: tilehawk ingest ARCHIVE_OR_FOLDER"
            )
        model, stored = load_detector(model_directory(workspace, row.name), label_set=classes)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, wanted, {}, stored.config.image_size, cache_bytes=0)
            found = predict_tiles(
                model,
                ((tile.id, source.image(index)) for index, tile in enumerate(wanted)),
                len(wanted),
                batch_size=config.batch_size,
                score_threshold=config.score_threshold,
                iou_threshold=config.iou_threshold,
                extents=[(tile.window.width, tile.window.height) for tile in wanted],
                progress=progress,
                only_embeddings=stored.stage != "finetune",
                split_saturated=config.split_saturated,
            )
        found.save(directory)
        with workspace.session() as session:
            add_prediction_set(session, name=name, model=get_model(session, row.name), tiles=len(wanted))
            ledger.record(session, "predict", model=row.name, predictions=name, tiles=len(wanted), boxes=len(found.tile_index))
        return PredictReport(name, row.name, config.split, len(wanted), len(found.tile_index))
