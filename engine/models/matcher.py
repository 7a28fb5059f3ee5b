"""One-to-one assignment of queries to objects (DETR, section 3.1)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from engine.errors import BadInput

__all__ = ["hungarian_match", "match_costs"]


def match_costs(
    logits: Tensor,
    boxes: Tensor,
    target_labels: Tensor,
    target_boxes: Tensor,
    weights: tuple[float, float, float] | None = None,
    *,
    no_object: Tensor | None = None,
) -> Tensor:
    """Cost (N, n) of giving each of n objects to each of N queries.

    Args:
        logits: (N, C).
        boxes: (N, 4) as (cx, cy, w, h), normalised.
        target_labels: (n,).
        target_boxes: (n, 4).
        weights: of the class cost, the L1 distance and the generalized IoU; None for the papers': 2, 5, 2 or, with a softmax, 1, 5, 2.
        no_object: (N,) the logit that shares a softmax with the classes, whose cost is then less the probability (DETR, section
            3.1); None for the focal cost (Deformable DETR, section A.3).
    """
    if no_object is None:
        probability = logits.sigmoid()
        positive = 0.25 * (1 - probability) ** 2 * -(probability + 1e-8).log()
        negative = 0.75 * probability**2 * -(1 - probability + 1e-8).log()
        classes = (positive - negative)[:, target_labels]
    else:
        classes = -torch.cat([logits, no_object[:, None]], -1).softmax(-1)[:, target_labels]
    if weights is None:
        weights = (2.0, 5.0, 2.0) if no_object is None else (1.0, 5.0, 2.0)
    distance = torch.cdist(boxes, target_boxes, p=1)
    overlap = generalized_box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy"))
    by_class, by_distance, by_overlap = weights
    cost: Tensor = by_class * classes + by_distance * distance - by_overlap * overlap
    return cost


@torch.no_grad()
def hungarian_match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The assignment of least total cost.

    Args:
        cost: (N, n), finite.

    Returns:
        Query indices and object indices, (min(N, n),) each.

    Raises:
        BadInput: a cost is not finite, so the model has diverged or a target is broken.
    """
    if not bool(torch.isfinite(cost).all()):
        raise BadInput(
            "the matching cost is not finite",
            expected="finite predictions and targets",
            remedy="Lower the learning rate, or look at the boxes",
        )
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)
