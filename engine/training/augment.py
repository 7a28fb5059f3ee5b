"""Augmentation for nadir imagery, where up is a matter of the flight: flips, quarter turns, scale, crops, mosaic, light.

Geometry is torchvision.transforms.v2 on tv_tensors; every random number comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from torchvision.tv_tensors import BoundingBoxes

from engine.config import StageConfig
from engine.training.colour import ColourChange, change_colours
from engine.training.data import Sample

__all__ = ["MOSAIC_PARTS", "AugmentConfig", "augment", "mosaic"]

MOSAIC_PARTS = 4


class AugmentConfig(StageConfig):
    """What may happen to a training image."""

    flip: bool = True
    """Mirror left–right and top–bottom, each with probability one half."""
    quarter_turn: bool = True
    """Transpose with probability one half: with the flips, all eight orientations."""
    scale: tuple[float, float] = (0.7, 1.4)
    """Range of the log-uniform zoom; above 1 a random crop, below 1 black margins."""
    crop_tries: int = Field(default=8, ge=1)
    """Places that are drawn for a crop: the first of those that cut the fewest boxes is taken; 1 takes the first place."""
    minimum_visible: float = Field(default=0.4, ge=0, le=1)
    """Share of a box that a crop must keep for the box to stay, where no place keeps it whole."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of brightness."""
    contrast: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of contrast."""
    saturation: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of saturation."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Largest turn of the hue, as a share of the colour circle."""
    mosaic: float = Field(default=0.0, ge=0, le=1)
    """Share of training images that are put together from crops of four tiles; each of them counts as four images seen."""
    mosaic_scale: tuple[float, float] = (0.7, 1.0)
    """Range of the log-uniform zoom of a mosaic's parts; a part is never zoomed so far out that it leaves its quarter empty."""
    mosaic_until: float = Field(default=0.8, ge=0, le=1)
    """Share of the run after which there are no mosaics, so that it ends on images as they are."""

    @model_validator(mode="after")
    def _scales_are_ranges(self) -> Self:
        for name, (low, high) in {"scale": self.scale, "mosaic_scale": self.mosaic_scale}.items():
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range of zooms, 0 < low ≤ high")
        return self


class _Scene(NamedTuple):
    """An image with its boxes on the way through the transforms."""

    image: Tensor
    boxes: BoundingBoxes
    labels: Tensor
    areas: Tensor
    """(n,) areas that the boxes would have at the present scale if nothing were cut off."""


def _draw(count: int, generator: torch.Generator) -> list[float]:
    drawn: list[float] = torch.rand(count, generator=generator).tolist()
    return drawn


def _log_uniform(bounds: tuple[float, float], share: float) -> float:
    return float(bounds[0] * (bounds[1] / bounds[0]) ** share)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _flipped(sample: Sample, config: AugmentConfig, generator: torch.Generator) -> _Scene:
    image, boxes = sample.image, BoundingBoxes(sample.boxes, format="XYXY", canvas_size=sample.image.shape[-2:], clamping_mode=None)
    across, down = (share < 0.5 for share in _draw(2, generator))
    if config.flip and across:
        image, boxes = transforms.horizontal_flip(image), transforms.horizontal_flip(boxes)
    if config.flip and down:
        image, boxes = transforms.vertical_flip(image), transforms.vertical_flip(boxes)
    return _Scene(image, boxes, sample.labels, _areas(sample.boxes))


def _turned(sample: Sample, config: AugmentConfig, generator: torch.Generator) -> Sample:
    """Transposed or not: after flips, one of the eight orientations. It comes last, for rows are quicker to copy than columns."""
    if config.quarter_turn and _draw(1, generator)[0] < 0.5:
        return sample._replace(image=sample.image.transpose(1, 2), boxes=sample.boxes[:, [1, 0, 3, 2]])
    return sample


def _window(boxes: Tensor, size: int, width: int, height: int, tries: int, generator: torch.Generator) -> tuple[int, int]:
    """Left and top of a window inside the image: of ``tries`` random places the first among those that cut the fewest boxes."""
    room = torch.tensor([size - width, size - height])
    starts = (torch.rand(tries, 2, generator=generator) * room).round()
    ends = starts + torch.tensor([width, height])
    touched = ((boxes[None, :, 2:] > starts[:, None]) & (boxes[None, :, :2] < ends[:, None])).all(-1)
    whole = ((boxes[None, :, :2] >= starts[:, None]) & (boxes[None, :, 2:] <= ends[:, None])).all(-1)
    cut = (touched & ~whole).sum(1).tolist()
    left, top = starts[cut.index(min(cut))].tolist()
    return int(left), int(top)


def _cropped(scene: _Scene, window: tuple[int, int], target: tuple[int, int], config: AugmentConfig, generator: torch.Generator) -> _Scene:
    """A window of (width, height) pixels somewhere in the scene, as an image of ``target`` (width, height) pixels."""
    (width, height), side = window, scene.image.shape[-1]
    left, top = _window(scene.boxes, side, width, height, config.crop_tries, generator)
    image, boxes = (transforms.crop(part, top, left, height, width) for part in (scene.image, scene.boxes))
    size = [target[1], target[0]]
    areas = scene.areas * (target[0] * target[1] / (width * height))
    return _Scene(_resized(image, size), transforms.resize(boxes, size), scene.labels, areas)


def _resized(image: Tensor, size: list[int]) -> Tensor:
    """Resampled in 8 bits, for which the channels of a pixel must lie side by side, pixel by pixel."""
    channels, height, width = image.shape
    if [height, width] == size:
        return image
    if image.stride(0) == 1 and image.stride(2) == channels:
        rows = image.as_strided((height, width * channels), (image.stride(1), 1)).contiguous()
        image = rows.view(height, width, channels).permute(2, 0, 1)
    resized: Tensor = transforms.resize(image[None].contiguous(memory_format=torch.channels_last), size, antialias=True)[0]
    return resized


def _zoomed(scene: _Scene, config: AugmentConfig, generator: torch.Generator) -> _Scene:
    """Scale onto a canvas of the same size, at a random place."""
    side = scene.image.shape[-1]
    factor = _log_uniform(config.scale, _draw(1, generator)[0])
    if factor >= 1:
        window = max(round(side / factor), 1)
        return _cropped(scene, (window, window), (side, side), config, generator)
    scaled = max(round(side * factor), 1)
    left, top = (round(share * (side - scaled)) for share in _draw(2, generator))
    margins = [left, top, side - scaled - left, side - scaled - top]
    image, boxes = _resized(scene.image, [scaled, scaled]), transforms.resize(scene.boxes, [scaled, scaled])
    return _Scene(transforms.pad(image, margins), transforms.pad(boxes, margins), scene.labels, scene.areas * (scaled / side) ** 2)


def _visible(scene: _Scene, minimum: float) -> Sample:
    """The boxes that are left, clipped to the image; those of which too little is left are gone."""
    clipped = transforms.clamp_bounding_boxes(scene.boxes, clamping_mode="hard").as_subclass(Tensor)
    keep = ((clipped[:, 2:] - clipped[:, :2]) > 1).all(1) & (_areas(clipped) >= minimum * scene.areas)
    return Sample(scene.image, clipped[keep], scene.labels[keep])


def _lit(sample: Sample, config: AugmentConfig, generator: torch.Generator) -> Sample:
    limits = (config.brightness, config.contrast, config.saturation, config.hue)
    brightness, contrast, saturation, hue = (limit * (2 * share - 1) for limit, share in zip(limits, _draw(4, generator), strict=True))
    change = ColourChange(1 + brightness, 1 + contrast, 1 + saturation, hue)
    return sample._replace(image=change_colours(sample.image, change) if any(limits) else sample.image.contiguous())


def augment(sample: Sample, config: AugmentConfig, generator: torch.Generator) -> Sample:
    """A changed copy of ``sample`` of the same size, its boxes clipped to the image; the generator decides everything."""
    scene = _zoomed(_flipped(sample, config, generator), config, generator)
    visible = _visible(scene, config.minimum_visible)._replace(tile=sample.tile, absence=sample.absence)
    return _lit(_turned(visible, config, generator), config, generator)


def mosaic(samples: Sequence[Sample], config: AugmentConfig, generator: torch.Generator) -> Sample:
    """Crops of four samples around a random point of one image, so that it holds more objects (YOLOv4, section 3.3).

    Args:
        samples: four of the same size.
        config: what may happen to each; the zoom is that of ``mosaic_scale``.
        generator: decides everything.
    """
    assert len(samples) == MOSAIC_PARTS
    side = samples[0].image.shape[-1]
    across, down = (round(side * (0.35 + 0.3 * share)) for share in _draw(2, generator))
    canvas = samples[0].image.new_empty(3, side, side)
    parts: list[Sample] = []
    for number, sample in enumerate(samples):
        left, width = (across, side - across) if number % 2 else (0, across)
        top, height = (down, side - down) if number // 2 else (0, down)
        factor = max(_log_uniform(config.mosaic_scale, _draw(1, generator)[0]), max(width, height) / side)
        window = (min(round(width / factor), side), min(round(height / factor), side))
        scene = _cropped(_flipped(sample, config, generator), window, (width, height), config, generator)
        part = _visible(scene, config.minimum_visible)
        canvas[:, top : top + height, left : left + width] = part.image
        parts.append(part._replace(boxes=part.boxes + torch.tensor([left, top, left, top])))
    boxes, labels = torch.cat([part.boxes for part in parts]), torch.cat([part.labels for part in parts])
    joined = Sample(canvas, boxes, labels, absence=min(sample.absence for sample in samples))
    return _lit(_turned(joined, config, generator), config, generator)
