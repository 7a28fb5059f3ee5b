"""One-to-many assignment of objects: to proposals by what they answer or where they stand, to queries by the boxes they start from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

__all__ = ["Assignment", "align_tasks", "assign_centres", "assign_overlaps"]

_RADIUS = 1.5
_PRIOR_TOKENS = 3.0
_LEVEL_TIE = 0.3
_LEAST_OVERLAP = 0.1


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


@torch.no_grad()
def assign_centres(priors: Tensor, target_boxes: Tensor) -> Assignment:
    """Give each object the tokens near its centre on the level whose priors fit its size best (FCOS, section 3.2, with centre sampling).

    Unlike :func:`align_tasks` it does not ask what the proposals answer yet, so the first steps of a short schedule learn already. A token
    that is near several objects answers for the smallest.

    Args:
        priors: (T, 4) as (cx, cy, w, h), normalised, three tokens of their level wide.
        target_boxes: (n, 4) in the same form, n at least 1.

    Returns:
        Pairs whose quality is 1.
    """
    token = priors[:, 2:] / _PRIOR_TOKENS
    side = target_boxes[:, 2:].prod(-1).sqrt()
    misfit = torch.log2(priors[None, :, 2:].prod(-1).sqrt() / side[:, None]).abs()
    fits = misfit <= misfit.amin(1, keepdim=True) + _LEVEL_TIE
    away = (priors[None, :, :2] - target_boxes[:, None, :2]).abs()
    near = (away < _RADIUS * token[None]).all(-1)
    inside = (away < torch.maximum(target_boxes[:, None, 2:] / 2, token[None] * 0.5001)).all(-1)
    size = torch.where(fits & near & inside, side[:, None], torch.inf)
    smallest, owner = size.min(0)
    positive = torch.isfinite(smallest).nonzero()[:, 0]
    return Assignment(positive, owner[positive], torch.ones_like(side[owner[positive]]))


@torch.no_grad()
def assign_overlaps(starts: Tensor, target_boxes: Tensor, *, positive_iou: float, best_too: bool) -> tuple[Tensor, Tensor]:
    """Starting boxes that overlap an object well, and on request for every object the one that does best (Faster R-CNN, section 3.1.2).

    Args:
        starts: (N, 4) as (cx, cy, w, h), normalised.
        target_boxes: (n, 4) in the same form, n at least 1.
        positive_iou: overlap from which a query answers for the object that it overlaps most.
        best_too: an object's best query answers for it from an overlap of a tenth on.

    Returns:
        Indices of starting boxes and of their objects, (P,) each.
    """
    overlap = box_iou(box_convert(starts, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy"))
    best, owner = overlap.max(1)
    chosen = best >= positive_iou
    if best_too:
        chosen |= ((overlap >= overlap.amax(0, keepdim=True)) & (overlap > _LEAST_OVERLAP)).any(1)
    rows = chosen.nonzero()[:, 0]
    return rows, owner[rows]
