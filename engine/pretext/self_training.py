"""A round of self-training: what a detector is sure of on unlabelled tiles becomes their labels (Lee, Pseudo-Label; STAC, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from engine.config import StageConfig
from engine.inference.predict import predict_batch
from engine.models.detector import Detector
from engine.pretext.tile_boxes import TileBoxes
from engine.progress import Progress, silent
from engine.training.data import Joined, Sample, TileSource, read_batches

__all__ = ["SelfTrainingConfig", "believe", "with_believed"]

BATCH = 8


class SelfTrainingConfig(StageConfig):
    """What is believed, and how much it counts."""

    least_score: float = Field(default=0.5, gt=0, lt=1)
    """Score from which a found box is taken for an object."""
    absence: float = Field(default=1.0, ge=0, le=1)
    """How much it counts that nothing else is on such a tile: objects that the model is not sure of may be."""
    empty_tiles: bool = False
    """Tiles on which nothing is found count as empty ones; else they are left out."""
    labelled_times: int = Field(default=0, ge=0)
    """How often a labelled tile comes while an unlabelled one comes once; 0 for so often that a quarter of what is seen is labelled."""


def believe(
    model: Detector,
    source: TileSource,
    config: SelfTrainingConfig,
    *,
    extents: Sequence[tuple[float, float]] | None = None,
    bf16: bool = False,
    progress: Progress = silent,
) -> TileBoxes:
    """Let a detector label tiles.

    Args:
        model: in evaluation mode.
        source: the tiles; labels that they have are not looked at, and one that cannot be read has no boxes.
        config: what is believed.
        extents: (width, height) of each tile in the square that the model sees, what is beyond being padding; None where all fill it.
        bf16: forward passes under autocast.
        progress: told after every few tiles.
    """
    device = next(model.parameters()).device
    boxes = [torch.zeros(0, 4) for _ in range(len(source))]
    labels = [torch.zeros(0, dtype=torch.long) for _ in range(len(source))]
    for indices, pixels in read_batches(source, range(len(source)), BATCH):
        images = (pixels.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            sides = torch.tensor([extents[index] for index in indices]) if extents is not None else None
            found = predict_batch(model, images, score_threshold=config.least_score, iou_threshold=0.5, extents=sides)
        for index, tile in zip(indices, found, strict=True):
            boxes[index], labels[index] = tile.boxes.float().cpu().clone(), tile.labels.cpu().clone()
        progress(indices[-1] + 1, len(source), "labelling tiles by the model")
    return TileBoxes(boxes, labels)


def with_believed(labelled: TileSource, unlabelled: TileSource, believed: TileBoxes, config: SelfTrainingConfig) -> Joined:
    """Labelled tiles, and the unlabelled ones with what is believed of them."""
    kept = [index for index, boxes in enumerate(believed.boxes) if len(boxes) or config.empty_tiles]
    times = config.labelled_times or max(1, round(len(kept) / (3 * len(labelled))))
    return Joined([(labelled, times), (_Some(believed.on(unlabelled, absence=config.absence), kept), 1)])


class _Some:
    def __init__(self, source: TileSource, indices: list[int]) -> None:
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._indices)

    def sample(self, index: int) -> Sample:
        """The tile at ``index``."""
        return self._source.sample(self._indices[index])

    def name(self, index: int) -> str:
        """What a message calls it."""
        return self._source.name(self._indices[index])
