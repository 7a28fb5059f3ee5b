"""What a detector that is taught by regions finds on a few tiles, beside the regions that it was taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, nms

from engine.inference.predict import predict_batch
from engine.models.detector import Detector
from engine.models.one_shot import describe_patches, find_patch
from engine.training.data import Sample
from engine.training.detection import stack_images
from engine.training.one_shot import Query

__all__ = ["FoundRegions", "find_look_alikes", "find_regions_again"]

FEWEST = 5
"""Boxes that are shown of a tile at least, where so many are found."""
SAME_PLACE_IOU = 0.5


class FoundRegions(NamedTuple):
    """Regions of some tiles, and the detector's surest boxes there, as many as it was taught.

    Boxes (n, 4) are (x1, y1, x2, y2) in pixels.
    """

    images: Tensor
    """(B, 3, S, S) in [0, 1]."""
    taught: list[tuple[Tensor, Tensor]]
    """Boxes and clusters (n,) of each tile."""
    found: list[tuple[Tensor, Tensor]]
    """Boxes and clusters (n,) of each tile, the surest first."""
    queries: list[Tensor | None]
    """The patch (3, s, s) in [0, 1] that each tile was asked for; None where it was asked for everything."""


@torch.no_grad()
def find_regions_again(detector: Detector, batch: Sequence[Sample]) -> FoundRegions:
    """Every region that the detector now finds on ``batch``."""
    images = stack_images(list(batch))
    learning = detector.training
    detector.eval()
    try:
        tiles = predict_batch(detector, images, score_threshold=0.0, iou_threshold=SAME_PLACE_IOU)
    finally:
        detector.train(learning)
    shown = [max(len(sample.boxes), FEWEST) for sample in batch]
    found = [(tile.boxes[:count], tile.labels[:count]) for tile, count in zip(tiles, shown, strict=True)]
    return FoundRegions(images, [(sample.boxes, sample.labels) for sample in batch], found, [None] * len(batch))


@torch.no_grad()
def find_look_alikes(detector: Detector, batch: Sequence[Sample], queries: Sequence[Query]) -> FoundRegions:
    """On each tile of ``batch``, what looks like the patch that it is asked for."""
    images = stack_images(list(batch))
    learning = detector.training
    detector.eval()
    try:
        taught, found = [], []
        features = describe_patches(detector, torch.stack([query.patch for query in queries]).to(images.device))
        for image, (sample, query) in enumerate(zip(batch, queries, strict=True)):
            wanted = sample.labels == query.label
            answer = find_patch(detector, images[image : image + 1], features[image])
            boxes = box_convert(answer.boxes[0].float(), "cxcywh", "xyxy") * images.shape[-1]
            kept = nms(boxes, answer.matched[0].float(), SAME_PLACE_IOU)[: max(int(wanted.sum()), 1)]
            taught.append((sample.boxes[wanted], sample.labels[wanted]))
            found.append((boxes[kept], torch.full_like(kept, query.label)))
    finally:
        detector.train(learning)
    return FoundRegions(images, taught, found, [query.patch for query in queries])
