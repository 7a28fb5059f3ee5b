"""A second, closer look at a tile in which the detector ran out of queries: quarter by quarter, enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms

from engine.inference.predictions import DESCRIBED_FROM

__all__ = ["Looked", "joined_looks", "quarters"]

MARGIN = 1 / 8
EDGE_PIXELS = 2.0


class Looked(Protocol):
    """What a detector says of a picture, as far as looks are joined: P boxes, best first."""

    @property
    def boxes(self) -> Tensor:
        """(P, 4) xyxy pixels."""

    @property
    def labels(self) -> Tensor:
        """(P,)."""

    @property
    def class_scores(self) -> Tensor:
        """(P, C)."""

    @property
    def drift(self) -> Tensor:
        """(P,)."""

    @property
    def features(self) -> Tensor | None:
        """(F, D) of the boxes that are sure enough to have any."""


def quarters(image: Tensor) -> tuple[Tensor, Tensor]:
    """Four overlapping parts of an image (3, S, S), each enlarged to (3, S, S), and the window (4, 4) xyxy of each in pixels of the image.

    A part is half as wide as the image and an eighth wider, so that most objects lie whole in one of them.
    """
    size = image.shape[-1]
    side = size // 2 + int(size * MARGIN)
    far = size - side
    corners = torch.tensor([[0, 0], [far, 0], [0, far], [far, far]])
    parts = torch.stack([image[:, y : y + side, x : x + side] for x, y in corners.tolist()])
    enlarged = functional.interpolate(parts.float(), size=(size, size), mode="bilinear", align_corners=False)
    return enlarged, torch.cat([corners, corners + side], 1).float()


def joined_looks(whole: Looked, parts: Sequence[Looked], windows: Tensor, extent: Tensor, iou_threshold: float) -> tuple[Tensor, ...]:
    """(boxes, labels, class_scores, drift, features) of the objects that any look found, best first.

    A box that ends at an inner edge of its part may be cut there, and is left to the other looks.

    Args:
        whole: of the tile, in its pixels.
        parts: of each of :func:`quarters`, in pixels of the enlarged part.
        windows: (4, 4) of the parts.
        extent: (2,) width and height of the tile in pixels, at most S: what lies outside is black, and no object.
        iou_threshold: of two boxes of one class that overlap more, the weaker is dropped.
    """
    size, corner = float(windows.max()), extent.to(whole.boxes).repeat(2)
    looks = [_columns(whole, whole.boxes)]
    for part, window in zip(parts, windows.to(whole.boxes), strict=True):
        scale = (window[2] - window[0]) / size
        boxes = part.boxes * scale + window[:2].repeat(2)
        inner_low, inner_high = window[:2] > 0, window[2:] < size
        cut = ((boxes[:, :2] < window[:2] + EDGE_PIXELS) & inner_low) | ((boxes[:, 2:] > window[2:] - EDGE_PIXELS) & inner_high)
        boxes = torch.minimum(boxes, corner)
        kept = ~cut.any(1) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
        looks.append(tuple(column[kept] for column in _columns(part, boxes)))
    boxes, labels, scores, drift, features = (torch.cat(columns) for columns in zip(*looks, strict=True))
    best = scores.amax(1)
    kept = batched_nms(boxes, best, labels, iou_threshold)
    described = kept[best[kept] >= DESCRIBED_FROM]
    return boxes[kept], labels[kept], scores[kept], drift[kept], features[described]


def _columns(look: Looked, boxes: Tensor) -> tuple[Tensor, ...]:
    """The columns of a look, with a row of features for every box."""
    assert look.features is not None
    features = look.features.new_zeros(len(boxes), look.features.shape[1])
    features[look.class_scores.amax(1) >= DESCRIBED_FROM] = look.features
    return boxes, look.labels, look.class_scores, look.drift, features
