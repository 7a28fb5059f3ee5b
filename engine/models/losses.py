"""Losses of the detector: quality-aware classes, L1 and generalized IoU on the proposals and on every decoder layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from engine.models.architecture import DetectorConfig
from engine.models.assignment import align_tasks, assign_centres, assign_overlaps
from engine.models.detector import Denoised, Detections, Layer
from engine.models.encoder import Proposals
from engine.models.heads import box_moves
from engine.models.matcher import hungarian_match, match_costs
from engine.models.regions import MOVE_UNITS
from engine.models.targets import Targets

__all__ = ["LossWeights", "Targets", "box_losses", "class_loss", "detection_loss", "loss_weights", "softmax_loss", "varifocal"]


class LossWeights(NamedTuple):
    """Weights of the parts."""

    classes: float = 1.0
    distance: float = 5.0
    overlap: float = 2.0
    relative: float = 5.0
    moves: float = 1.0
    dense: float = 1.0


def loss_weights(config: DetectorConfig) -> LossWeights:
    """The weights that go with a class loss: focal 2 (Deformable DETR, section A.3), the others 1."""
    focal = config.architecture == "deformable" and config.class_loss == "focal"
    return LossWeights(classes=2.0 if focal else 1.0)


def varifocal(logits: Tensor, quality: Tensor, absence: Tensor | None = None, *, gamma: float = 2.0, alpha: float = 0.75) -> Tensor:
    """Varifocal loss, summed (VarifocalNet, equation 2): positives learn their quality, negatives are weighted down.

    Args:
        logits: (…, C).
        quality: (…, C) target scores in [0, 1]; 0 marks a negative.
        absence: how much negatives count besides, as for :func:`class_loss`.
        gamma: focusing exponent of negatives.
        alpha: weight of negatives.
    """
    weight = torch.where(quality > 0, quality, alpha * logits.detach().sigmoid() ** gamma * (1.0 if absence is None else absence))
    loss: Tensor = functional.binary_cross_entropy_with_logits(logits, quality, weight=weight, reduction="sum")
    return loss


def class_loss(kind: str, logits: Tensor, quality: Tensor, absence: Tensor | None = None) -> Tensor:
    """The decoder's class loss, summed.

    Args:
        kind: "varifocal"; "focal" with α 0.25 and γ 2 (RetinaNet, equation 5), for which every positive is 1; or "quality",
            cross-entropy on the quality; or "presence", cross-entropy for which every positive is 1.
        logits: (…, C).
        quality: (…, C) target scores in [0, 1]; 0 marks a negative.
        absence: how much negatives count, broadcast to ``logits``; None for 1.
    """
    if kind == "varifocal":
        return varifocal(logits, quality, absence)
    if kind == "focal":
        focal: Tensor = sigmoid_focal_loss(logits, (quality > 0).to(logits.dtype), alpha=0.25, gamma=2.0, reduction="none")
        return (focal if absence is None else focal * _counted(quality, absence)).sum()
    wanted = (quality > 0).to(logits.dtype) if kind == "presence" else quality
    weight = None if absence is None else _counted(quality, absence)
    summed: Tensor = functional.binary_cross_entropy_with_logits(logits, wanted, weight=weight, reduction="sum")
    return summed


def _counted(quality: Tensor, absence: Tensor) -> Tensor:
    return torch.where(quality > 0, torch.ones_like(absence), absence)


def _absence(targets: list[Targets], like: Tensor) -> Tensor | None:
    """How much negatives count in each image (B, 1, 1); None where they count in full in all."""
    if all(target.absence == 1 for target in targets):
        return None
    return like.new_tensor([target.absence for target in targets])[:, None, None]


def softmax_loss(logits: Tensor, no_object: Tensor, labels: Tensor, no_object_weight: float, absence: Tensor | None = None) -> Tensor:
    """Cross-entropy with a down-weighted no-object class, the weighted mean over all queries (DETR, section 3.1).

    Args:
        logits: (B, N, C).
        no_object: (B, N).
        labels: (B, N), C where there is no object.
        no_object_weight: of the last class; the others weigh 1.
        absence: (B, 1, 1) by which that is multiplied in each image; None for 1.
    """
    joined = torch.cat([logits, no_object[..., None]], -1)
    weight = joined.new_ones(joined.shape[-1])
    weight[-1] = no_object_weight
    if absence is None:
        return functional.cross_entropy(joined.flatten(0, 1), labels.flatten(), weight=weight)
    each = functional.cross_entropy(joined.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    weights = weight[labels] * torch.where(labels == logits.shape[-1], absence[..., 0], torch.ones_like(absence[..., 0]))
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


def box_losses(boxes: Tensor, target_boxes: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 − GIoU, each summed over the (P, 4) pairs, optionally weighted by (P,)."""
    weight = boxes.new_ones(len(boxes)) if weight is None else weight
    distance = (functional.l1_loss(boxes, target_boxes, reduction="none").sum(-1) * weight).sum()
    overlap = generalized_box_iou_loss(box_convert(boxes, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy"), reduction="none")
    return distance, (overlap * weight).sum()


def relative_loss(boxes: Tensor, target_boxes: Tensor, weight: Tensor) -> Tensor:
    """L1 distance in units of the object's sides, each coordinate's limited to 2, summed over the (P, 4) pairs, weighted by (P,)."""
    sizes = target_boxes[:, [2, 3, 2, 3]].clamp(min=0.01)
    return (((boxes - target_boxes).abs() / sizes).clamp(max=2).sum(-1) * weight).sum()


def moves_loss(boxes: Tensor, starts: Tensor, target_boxes: Tensor) -> Tensor:
    """Smooth L1 between the moves that were made and those that were due, summed over (P, 4) pairs (Fast R-CNN, equations 2 and 3).

    Moves are counted in :data:`engine.models.regions.MOVE_UNITS` of the starting box.
    """
    units = starts.new_tensor(MOVE_UNITS)
    made, due = box_moves(starts, boxes) / units, box_moves(starts, target_boxes) / units
    return functional.smooth_l1_loss(made, due, beta=1 / 9, reduction="sum")


def _pair_iou(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    iou: Tensor = box_iou(box_convert(boxes.detach(), "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy"))
    return iou.diagonal().clamp(min=0.05)


def _layer_parts(layer: Layer, targets: list[Targets], objects: float, config: DetectorConfig) -> dict[str, Tensor]:
    """One-to-one losses of a decoder layer, normalised by the number of objects."""
    quality, absence = torch.zeros_like(layer.logits), _absence(targets, layer.logits)
    classes = torch.full(layer.logits.shape[:2], layer.logits.shape[-1], device=layer.logits.device)
    predicted, wanted = [], []
    for image, target in enumerate(targets):
        if not len(target.labels):
            continue
        logits, boxes = layer.logits[image], layer.boxes[image]
        no_object = None if layer.no_object is None else layer.no_object[image]
        with torch.no_grad():
            rows, columns = hungarian_match(match_costs(logits, boxes, target.labels, target.boxes, no_object=no_object))
        predicted.append(boxes[rows])
        wanted.append(target.boxes[columns])
        quality[image, rows, target.labels[columns]] = _pair_iou(boxes[rows], target.boxes[columns])
        classes[image, rows] = target.labels[columns]
    if layer.no_object is None:
        parts = {"classes": class_loss(config.class_loss, layer.logits, quality, absence) / objects}
    else:
        parts = {"classes": softmax_loss(layer.logits, layer.no_object, classes, config.no_object_weight, absence)}
    zero = layer.boxes.sum() * 0
    distance, overlap = box_losses(torch.cat(predicted), torch.cat(wanted)) if predicted else (zero, zero)
    return parts | {"distance": distance / objects, "overlap": overlap / objects}


def _overlapping_parts(
    layer: Layer, targets: list[Targets], config: DetectorConfig, *, positive_iou: float, by_moves: bool = False
) -> dict[str, Tensor]:
    """One-to-many losses of a layer, normalised by the number of queries that answer for an object (Faster R-CNN, section 3)."""
    assert layer.starts is not None
    quality = torch.zeros_like(layer.logits)
    predicted, wanted, started = [], [], []
    for image, target in enumerate(targets):
        if not len(target.labels):
            continue
        rows, columns = assign_overlaps(layer.starts[image], target.boxes, positive_iou=positive_iou, best_too=not config.region_stage)
        predicted.append(layer.boxes[image, rows])
        started.append(layer.starts[image, rows])
        wanted.append(target.boxes[columns])
        quality[image, rows, target.labels[columns]] = _pair_iou(predicted[-1], wanted[-1])
    answering = max(sum(len(boxes) for boxes in predicted), 1)
    classes = class_loss(config.class_loss, layer.logits, quality, _absence(targets, quality))
    zero = layer.boxes.sum() * 0
    if by_moves:
        moves = moves_loss(torch.cat(predicted), torch.cat(started), torch.cat(wanted)) if predicted else zero
        return {"classes": classes / answering, "moves": moves / answering}
    distance, overlap = box_losses(torch.cat(predicted), torch.cat(wanted)) if predicted else (zero, zero)
    return {"classes": classes / answering, "distance": distance / answering, "overlap": overlap / answering}


def _matched_proposals(proposals: Proposals, targets: list[Targets], objects: float, config: DetectorConfig) -> dict[str, Tensor]:
    """Proposals supervised as if they were a decoder layer; where they are chosen by objectness, all objects are of class 0."""
    if config.queries == "coordinates":
        targets = [target._replace(labels=torch.zeros_like(target.labels)) for target in targets]
    return _layer_parts(Layer(proposals.logits, proposals.boxes), targets, objects, config)


def _denoising_parts(layer: Layer, denoised: Denoised, targets: list[Targets], objects: float, config: DetectorConfig) -> dict[str, Tensor]:
    """Positives repair their object, negatives say that nothing is there; slots without an object count for nothing."""
    noised = denoised.noised
    quality = torch.zeros_like(layer.logits)
    real = noised.objects >= 0
    images, slots = (real & noised.positive).nonzero(as_tuple=True)
    first = torch.tensor([0, *(len(target.labels) for target in targets)], device=images.device).cumsum(0)
    known = first[images] + noised.objects[images, slots]
    wanted, labels = torch.cat([target.boxes for target in targets])[known], torch.cat([target.labels for target in targets])[known]
    predicted = layer.boxes[images, slots]
    quality[images, slots, labels] = _pair_iou(predicted, wanted)
    distance, overlap = box_losses(predicted, wanted)
    share = objects * noised.groups
    classes = class_loss(config.class_loss, layer.logits[real], quality[real])
    return {"classes": classes / share, "distance": distance / share, "overlap": overlap / share}


def _dense_parts(proposals: Proposals, targets: list[Targets], config: DetectorConfig) -> dict[str, Tensor]:
    """One-to-many losses, normalised by the sum of target scores (TOOD, equation 6).

    Classes use plain cross-entropy: varifocal's weak negatives let all tokens become positive together first, which costs a
    short schedule most of its steps (docs/decisions/0002-losses-for-short-schedules.md).
    """
    priors = proposals.priors
    assert priors is not None
    quality = torch.zeros_like(proposals.logits)
    predicted, wanted, weights = [], [], []
    for image, target in enumerate(targets):
        if not len(target.labels):
            continue
        logits, boxes = proposals.logits[image], proposals.boxes[image]
        if config.proposal_loss == "dense":
            assigned = align_tasks(logits.detach(), boxes.detach(), priors[:, :2], priors[:, 2:] / 3, target.labels, target.boxes)
        else:
            assigned = assign_centres(priors, target.boxes)
        quality[image, assigned.proposals, target.labels[assigned.objects]] = assigned.quality
        predicted.append(boxes[assigned.proposals])
        wanted.append(target.boxes[assigned.objects])
        weights.append(assigned.quality)
    total = quality.sum().clamp(min=1.0)
    classes = class_loss("quality", proposals.logits, quality, _absence(targets, quality))
    zero = proposals.boxes.sum() * 0
    if config.proposal_boxes == "relative":
        relative = relative_loss(torch.cat(predicted), torch.cat(wanted), torch.cat(weights)) if predicted else zero
        return {"classes": classes / total, "relative": relative / total}
    distance, overlap = box_losses(torch.cat(predicted), torch.cat(wanted), torch.cat(weights)) if predicted else (zero, zero)
    return {"classes": classes / total, "distance": distance / total, "overlap": overlap / total}


def detection_loss(
    detections: Detections,
    targets: list[Targets],
    config: DetectorConfig,
    weights: LossWeights | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """The whole loss of a batch.

    By default proposals and decoder layers are supervised one-to-many, so that few objects still give many gradients; with one-to-one
    supervision every layer is matched. Noised objects are not matched: each slot knows its own.

    Args:
        detections: of the batch.
        targets: one an image, sound (:func:`engine.models.targets.check_targets`).
        config: the architecture, which says what is supervised how.
        weights: of the parts; None for those that go with the class loss.

    Returns:
        The loss, and its parts as numbers for the log.
    """
    weights = weights or loss_weights(config)
    objects = float(max(sum(len(target.labels) for target in targets), 1))
    sets: list[tuple[str, dict[str, Tensor], float]] = []
    if detections.proposals is not None and config.proposal_loss != "matched":
        sets.append(("dense", _dense_parts(detections.proposals, targets, config), weights.dense))
    elif detections.proposals is not None:
        sets.append(("proposals", _matched_proposals(detections.proposals, targets, objects, config), weights.dense))
    for look, regions in enumerate(detections.regions):
        least = min(config.positive_iou + 0.1 * look, 0.9)
        parts = _overlapping_parts(regions, targets, config, positive_iou=least, by_moves=config.region_boxes == "moves")
        sets.append((f"regions{look}", parts, config.region_weight))
    decoder_share = config.decoder_weight if detections.regions else 1.0
    for index, layer in enumerate(detections.layers):
        if config.architecture == "deformable" and config.supervision == "one-to-many":
            sets.append((f"layer{index}", _overlapping_parts(layer, targets, config, positive_iou=config.positive_iou), decoder_share))
        else:
            sets.append((f"layer{index}", _layer_parts(layer, targets, objects, config), decoder_share))
    if detections.denoised is not None:
        denoised = detections.denoised
        repaired = [_denoising_parts(layer, denoised, targets, objects, config) for layer in denoised.layers]
        sets += [(f"denoising{index}", parts, decoder_share) for index, parts in enumerate(repaired)]
    total = torch.zeros((), device=detections.layers[0].boxes.device)
    log: dict[str, float] = {}
    for name, parts, share in sets:
        for part, value in parts.items():
            total = total + share * getattr(weights, part) * value
        log |= {f"{name}_{part}": float(value.detach()) for part, value in parts.items()}
    return total, log
