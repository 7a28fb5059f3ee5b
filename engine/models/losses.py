"""Losses of the detector: quality-aware classes, L1 and generalized IoU on the proposals and on every decoder layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss

from engine.models.assignment import align_tasks
from engine.models.detector import Detections, Layer
from engine.models.encoder import ProposalHead, Proposals
from engine.models.matcher import hungarian_match, match_costs

__all__ = ["LossWeights", "Targets", "box_losses", "detection_loss", "varifocal"]


class Targets(NamedTuple):
    """The objects of one image."""

    labels: Tensor
    """(n,) int64."""
    boxes: Tensor
    """(n, 4) as (cx, cy, w, h), normalised."""


class LossWeights(NamedTuple):
    """Weights of the parts."""

    classes: float = 1.0
    distance: float = 5.0
    overlap: float = 2.0
    dense: float = 1.0


def varifocal(logits: Tensor, quality: Tensor, *, gamma: float = 2.0, alpha: float = 0.75) -> Tensor:
    """Varifocal loss, summed (VarifocalNet, equation 2): positives learn their quality, negatives are weighted down.

    Args:
        logits: (…, C).
        quality: (…, C) target scores in [0, 1]; 0 marks a negative.
        gamma: focusing exponent of negatives.
        alpha: weight of negatives.
    """
    weight = torch.where(quality > 0, quality, alpha * logits.detach().sigmoid() ** gamma)
    loss: Tensor = functional.binary_cross_entropy_with_logits(logits, quality, weight=weight, reduction="sum")
    return loss


def box_losses(boxes: Tensor, target_boxes: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 − GIoU, each summed over the (P, 4) pairs, optionally weighted by (P,)."""
    weight = boxes.new_ones(len(boxes)) if weight is None else weight
    distance = (functional.l1_loss(boxes, target_boxes, reduction="none").sum(-1) * weight).sum()
    overlap = generalized_box_iou_loss(box_convert(boxes, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy"), reduction="none")
    return distance, (overlap * weight).sum()


def _layer_parts(layer: Layer, targets: list[Targets], objects: float) -> dict[str, Tensor]:
    quality = torch.zeros_like(layer.logits)
    predicted, wanted = [], []
    for image, target in enumerate(targets):
        if not len(target.labels):
            continue
        logits, boxes = layer.logits[image], layer.boxes[image]
        with torch.no_grad():
            rows, columns = hungarian_match(match_costs(logits, boxes, target.labels, target.boxes))
        predicted.append(boxes[rows])
        wanted.append(target.boxes[columns])
        iou = box_iou(box_convert(boxes[rows].detach(), "cxcywh", "xyxy"), box_convert(target.boxes[columns], "cxcywh", "xyxy")).diagonal()
        quality[image, rows, target.labels[columns]] = iou.clamp(min=0.05)
    parts = {"classes": varifocal(layer.logits, quality) / objects}
    zero = layer.boxes.sum() * 0
    distance, overlap = box_losses(torch.cat(predicted), torch.cat(wanted)) if predicted else (zero, zero)
    return parts | {"distance": distance / objects, "overlap": overlap / objects}


def _dense_parts(proposals: Proposals, priors: Tensor, targets: list[Targets]) -> dict[str, Tensor]:
    """One-to-many losses, normalised by the sum of target scores (TOOD, equation 6).

    Classes use plain cross-entropy: varifocal's weak negatives let all tokens become positive together first, which costs a
    short schedule most of its steps (docs/decisions/0002-losses-for-short-schedules.md).
    """
    quality = torch.zeros_like(proposals.logits)
    predicted, wanted, weights = [], [], []
    for image, target in enumerate(targets):
        if not len(target.labels):
            continue
        logits, boxes = proposals.logits[image], proposals.boxes[image]
        assigned = align_tasks(logits.detach(), boxes.detach(), priors[:, :2], priors[:, 2:] / 3, target.labels, target.boxes)
        quality[image, assigned.proposals, target.labels[assigned.objects]] = assigned.quality
        predicted.append(boxes[assigned.proposals])
        wanted.append(target.boxes[assigned.objects])
        weights.append(assigned.quality)
    total = quality.sum().clamp(min=1.0)
    zero = proposals.boxes.sum() * 0
    distance, overlap = box_losses(torch.cat(predicted), torch.cat(wanted), torch.cat(weights)) if predicted else (zero, zero)
    classes = functional.binary_cross_entropy_with_logits(proposals.logits, quality, reduction="sum")
    return {"classes": classes / total, "distance": distance / total, "overlap": overlap / total}


def detection_loss(
    detections: Detections, targets: list[Targets], head: ProposalHead, weights: LossWeights | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The whole loss of a batch.

    Every decoder layer is matched one-to-one and learns the IoU of its matched boxes as their score; the proposals are
    supervised one-to-many, so that few objects still give many gradients.

    Returns:
        The loss, and its parts as numbers for the log.
    """
    weights = weights or LossWeights()
    objects = float(max(sum(len(target.labels) for target in targets), 1))
    priors = head.priors(detections.memory.shapes, detections.proposals.boxes.device)
    dense = _dense_parts(detections.proposals, priors, targets)
    total = torch.zeros((), device=priors.device)
    log: dict[str, float] = {}
    sets = [(f"layer{index}", _layer_parts(layer, targets, objects), 1.0) for index, layer in enumerate(detections.layers)]
    for name, parts, share in [("dense", dense, weights.dense), *sets]:
        loss = weights.classes * parts["classes"] + weights.distance * parts["distance"] + weights.overlap * parts["overlap"]
        total = total + share * loss
        log |= {f"{name}_{part}": float(value.detach()) for part, value in parts.items()}
    return total, log
