"""The supervised task: known boxes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from engine.models.denoising import known_boxes, noise_objects
from engine.models.detector import Detections, Detector
from engine.models.losses import LossWeights, detection_loss, loss_weights
from engine.models.targets import Targets, check_targets
from engine.training.data import Sample

__all__ = ["DetectionTask", "dropout_from", "stack_images", "targets_of"]


def stack_images(batch: list[Sample]) -> Tensor:
    """Images (B, 3, S, S) as float32 in [0, 1], channels last."""
    return torch.stack([sample.image for sample in batch]).to(memory_format=torch.channels_last).float() / 255


def targets_of(batch: list[Sample]) -> list[Targets]:
    """Normalised targets of each image."""
    return [
        Targets(sample.labels, box_convert(sample.boxes, "xyxy", "cxcywh") / sample.image.shape[-1], sample.absence) for sample in batch
    ]


@contextmanager
def dropout_from(generator: torch.Generator, share: float) -> Iterator[None]:
    """Dropout inside depends on ``generator`` alone, and so is the same after a resume; nothing is drawn where ``share`` is 0."""
    if not share:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield


class DetectionTask:
    """Learn to detect the labelled objects."""

    def __init__(self, model: Detector, weights: LossWeights | None = None) -> None:
        self.detector = model
        self._weights = weights or loss_weights(model.config)

    @property
    def model(self) -> nn.Module:
        """All that is trained and saved."""
        return self.detector

    @property
    def classes(self) -> int:
        """C."""
        return self.detector.num_classes

    def loss(self, batch: list[Sample], generator: torch.Generator, _done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """The detection loss of a batch; denoising and dropout are what is random in it."""
        targets = targets_of(batch)
        check_targets(targets, self.detector.num_classes)
        return detection_loss(self.detect(stack_images(batch), targets, generator), targets, self.detector.config, self._weights)

    def detect(self, images: Tensor, targets: list[Targets], generator: torch.Generator) -> Detections:
        """What the model says of images (B, 3, S, S), given what it may know of their objects in training."""
        config = self.detector.config
        noised = noise_objects(targets, config, self.detector.num_classes, generator)
        known = known_boxes(targets, config, generator) if config.region_stage else None
        with dropout_from(generator, config.dropout):
            detections: Detections = self.detector(images, noised, known)
        return detections
