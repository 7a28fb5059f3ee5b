"""Augmentation for nadir imagery, where up is a matter of the flight: flips, quarter turns, scale, crops, light."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from engine.config import StageConfig
from engine.training.data import Sample

__all__ = ["AugmentConfig", "augment"]


class AugmentConfig(StageConfig):
    """What may happen to a training image."""

    flip: bool = True
    """Mirror left–right and top–bottom, each with probability one half."""
    quarter_turn: bool = True
    """Transpose with probability one half: with the flips, all eight orientations."""
    scale: tuple[float, float] = (0.7, 1.4)
    """Range of the log-uniform zoom; above 1 a random crop, below 1 black margins."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of brightness and of contrast."""
    minimum_visible: float = Field(default=0.4, ge=0, le=1)
    """Share of a box that a crop must keep for the box to stay."""

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be a range of zooms, 0 < low ≤ high")
        return self


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _zoom(image: Tensor, boxes: Tensor, factor: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Scale by ``factor`` onto a canvas of the same size, at a random place."""
    size = image.shape[-1]
    scaled = max(round(size * factor), 1)
    resized = transforms.resize(image, [scaled, scaled], antialias=True)
    canvas = torch.zeros_like(image)
    shift_x, shift_y = (round(_uniform(0, 1, generator) * (size - scaled)) for _ in range(2))
    source_x, source_y, target_x, target_y = max(-shift_x, 0), max(-shift_y, 0), max(shift_x, 0), max(shift_y, 0)
    side = min(scaled, size)
    canvas[:, target_y : target_y + side, target_x : target_x + side] = resized[:, source_y : source_y + side, source_x : source_x + side]
    moved = boxes * (scaled / size) + torch.tensor([shift_x, shift_y, shift_x, shift_y], dtype=boxes.dtype)
    return canvas, moved


def augment(sample: Sample, config: AugmentConfig, generator: torch.Generator) -> Sample:
    """A changed copy of ``sample``, its boxes clipped to the image; the generator decides everything."""
    image, boxes, labels = sample
    size = image.shape[-1]
    if config.flip and _uniform(0, 1, generator) < 0.5:
        image, boxes = image.flip(2), torch.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)
    if config.flip and _uniform(0, 1, generator) < 0.5:
        image, boxes = image.flip(1), torch.stack([boxes[:, 0], size - boxes[:, 3], boxes[:, 2], size - boxes[:, 1]], 1)
    if config.quarter_turn and _uniform(0, 1, generator) < 0.5:
        image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]]
    low, high = (torch.tensor(bound).log().item() for bound in config.scale)
    factor = float(torch.tensor(_uniform(low, high, generator)).exp())
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) * factor**2
    image, boxes = _zoom(image, boxes, factor, generator)
    boxes = boxes.clamp(0, size)
    sides = boxes[:, 2:] - boxes[:, :2]
    keep = (sides > 1).all(1) & (sides.prod(1) >= config.minimum_visible * area)
    light = 1 + _uniform(-config.brightness, config.brightness, generator)
    contrast = 1 + _uniform(-config.brightness, config.brightness, generator)
    image = transforms.adjust_contrast(transforms.adjust_brightness(image, light), contrast)
    return Sample(image.contiguous(), boxes[keep], labels[keep])
