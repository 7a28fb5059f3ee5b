"""The supervised task: known boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

from engine.models.detector import Detector
from engine.models.losses import LossWeights, Targets, detection_loss
from engine.training.data import Sample

__all__ = ["DetectionTask", "stack_images", "targets_of"]


def stack_images(batch: list[Sample]) -> Tensor:
    """Images (B, 3, S, S) as float32 in [0, 1], channels last."""
    return torch.stack([sample.image for sample in batch]).to(memory_format=torch.channels_last).float() / 255


def targets_of(batch: list[Sample]) -> list[Targets]:
    """Normalised targets of each image."""
    return [Targets(sample.labels, box_convert(sample.boxes, "xyxy", "cxcywh") / sample.image.shape[-1]) for sample in batch]


class DetectionTask:
    """Learn to detect the labelled objects."""

    def __init__(self, model: Detector, weights: LossWeights | None = None) -> None:
        self.model = model
        self._weights = weights or LossWeights()

    def loss(self, batch: list[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG002
        """The detection loss of a batch; nothing in it is random."""
        detections = self.model(stack_images(batch))
        return detection_loss(detections, targets_of(batch), self.model.proposals, self._weights)
