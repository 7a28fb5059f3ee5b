"""One-to-many assignment of objects to dense proposals (TOOD, section 3.2: task-aligned)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

__all__ = ["Assignment", "align_tasks"]


class Assignment(NamedTuple):
    """Which proposals answer for which object, and how sure they should be."""

    proposals: Tensor
    """(P,) indices of positive proposals."""
    objects: Tensor
    """(P,) the object of each."""
    quality: Tensor
    """(P,) target scores in (0, 1]: the best aligned proposal of an object gets its IoU, the others less."""


@torch.no_grad()
def align_tasks(
    logits: Tensor,
    boxes: Tensor,
    centres: Tensor,
    reach: Tensor,
    target_labels: Tensor,
    target_boxes: Tensor,
    *,
    top: int = 10,
    alpha: float = 1.0,
    beta: float = 2.0,
) -> Assignment:
    """Give each object its ``top`` proposals with the largest score^alpha · IoU^beta among those whose centre is in or near it.

    Args:
        logits: (T, C).
        boxes: (T, 4) as (cx, cy, w, h), normalised.
        centres: (T, 2) token centres, normalised.
        reach: (T, 2) how far outside the object a centre may lie (so that the smallest objects have candidates too).
        target_labels: (n,).
        target_boxes: (n, 4) as (cx, cy, w, h), n at least 1.
        top: proposals an object.
        alpha: exponent of the score.
        beta: exponent of the IoU; smaller than in the paper (6), so that more proposals learn boxes in a short schedule.
    """
    corners = box_convert(target_boxes, "cxcywh", "xyxy")
    overlap: Tensor = box_iou(corners, box_convert(boxes, "cxcywh", "xyxy"))
    half = target_boxes[:, None, 2:] / 2
    near = ((centres[None] - target_boxes[:, None, :2]).abs() < torch.maximum(half, reach[None])).all(-1)
    alignment = logits.sigmoid()[:, target_labels].T ** alpha * overlap**beta * near
    best, index = alignment.topk(min(top, alignment.shape[1]), dim=1)
    chosen = torch.zeros_like(near).scatter_(1, index, best > 1e-9)
    contested = torch.where(chosen, overlap, torch.full_like(overlap, -1.0))
    owner = contested.argmax(0)
    positive = chosen.any(0).nonzero()[:, 0]
    objects = owner[positive]
    aligned = alignment[objects, positive]
    object_best = torch.zeros(len(target_boxes), device=boxes.device).scatter_reduce_(0, objects, aligned, "amax")
    object_iou = torch.zeros_like(object_best).scatter_reduce_(0, objects, overlap[objects, positive], "amax")
    quality = aligned / object_best[objects].clamp(min=1e-9) * object_iou[objects]
    return Assignment(positive, objects, quality)
