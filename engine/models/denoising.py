"""What training adds to queries: objects that the decoder repairs (DINO, section 3.3), and known boxes for the region stage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from engine.models.architecture import DetectorConfig
from engine.models.heads import prior_bias
from engine.models.queries import Queries
from engine.models.targets import Targets

__all__ = ["DenoisingQueries", "NoisedObjects", "denoising_mask", "known_boxes", "noise_objects"]

_SMALLEST_SIDE = 1e-3
_MOST_KNOWN = 100


class NoisedObjects(NamedTuple):
    """G groups of 2 · K slots an image, K the most objects of an image; in a group K positives, then K negatives; M = G · 2 · K."""

    labels: Tensor
    """(B, M) int64, some of them wrong."""
    boxes: Tensor
    """(B, M, 4) as (cx, cy, w, h), normalised, moved."""
    objects: Tensor
    """(B, M) the object of each slot, −1 where the image has fewer."""
    positive: Tensor
    """(M,) True where the object is to be repaired, False where the slot is to say that nothing is there."""
    groups: int


def _move_corners(boxes: Tensor, positive: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Corners of positives move by up to ``noise`` half sides, those of negatives by one to two times that."""
    share = torch.rand(boxes.shape, generator=generator) + (~positive)[:, None].float()
    sign = torch.randint(0, 2, boxes.shape, generator=generator) * 2.0 - 1.0
    half = (boxes[..., 2:] / 2).repeat(1, 1, 2)
    corners = box_convert(boxes, "cxcywh", "xyxy") + (share * sign).to(boxes) * half * noise
    low, high = torch.minimum(corners[..., :2], corners[..., 2:]), torch.maximum(corners[..., :2], corners[..., 2:])
    moved = box_convert(torch.cat([low, high], -1).clamp(0, 1), "xyxy", "cxcywh")
    return torch.cat([moved[..., :2], moved[..., 2:].clamp(min=_SMALLEST_SIDE)], -1)


def noise_objects(targets: list[Targets], config: DetectorConfig, classes: int, generator: torch.Generator) -> NoisedObjects | None:
    """Noise the objects of a batch.

    Args:
        targets: one an image.
        config: groups and noise.
        classes: C.
        generator: on the CPU.

    Returns:
        None where denoising is off or no image has an object.
    """
    most = max((len(target.labels) for target in targets), default=0)
    if not config.denoising_groups or not most:
        return None
    device = targets[0].boxes.device
    objects = torch.full((len(targets), most), -1, device=device)
    labels = torch.zeros(len(targets), most, dtype=torch.long, device=device)
    boxes = torch.full((len(targets), most, 4), 0.5, device=device)
    for image, target in enumerate(targets):
        count = len(target.labels)
        objects[image, :count] = torch.arange(count, device=device)
        labels[image, :count], boxes[image, :count] = target.labels, target.boxes
    copies = 2 * config.denoising_groups
    labels, boxes, objects = labels.repeat(1, copies), boxes.repeat(1, copies, 1), objects.repeat(1, copies)
    positive = (torch.arange(copies) % 2 == 0).repeat_interleave(most)
    changed = torch.rand(labels.shape, generator=generator) < config.denoising_label_noise / 2
    drawn = torch.randint(0, classes, labels.shape, generator=generator)
    labels = torch.where(changed.to(device), drawn.to(device), labels)
    boxes = _move_corners(boxes, positive, config.denoising_box_noise, generator)
    return NoisedObjects(labels, boxes, objects, positive.to(device), config.denoising_groups)


def known_boxes(targets: list[Targets], config: DetectorConfig, generator: torch.Generator) -> Tensor | None:
    """Known boxes for which the region stage is to answer beside its proposals, of which few lie on an object while training is young.

    Args:
        targets: one an image.
        config: how many copies of each (``region_truth``; fewer in a batch so crowded that they would be more than a hundred an image), and
            how far all but the first are moved (``region_noise``).
        generator: on the CPU.

    Returns:
        (B, K, 4) as (cx, cy, w, h), normalised; the whole tile fills the places of images with fewer. None where no image has an object.
    """
    most = max((len(target.boxes) for target in targets), default=0)
    if not most or not config.region_truth:
        return None
    copies = max(1, min(config.region_truth, _MOST_KNOWN // most))
    boxes = targets[0].boxes.new_tensor([0.5, 0.5, 1.0, 1.0]).repeat(len(targets), copies * most, 1)
    for image, target in enumerate(targets):
        count = len(target.boxes)
        boxes[image, :count] = target.boxes
        if copies > 1:
            others = target.boxes.repeat(copies - 1, 1)[None]
            moved = _move_corners(others, torch.ones(others.shape[1], dtype=torch.bool), config.region_noise, generator)
            boxes[image, count : count * copies] = moved[0]
    return boxes


def denoising_mask(slots: int, groups: int, queries: int, device: torch.device) -> Tensor:
    """Self-attention mask (M + N, M + N), True where attention is forbidden.

    A group sees itself and the queries; queries see no group, so that no truth leaks into them.

    Args:
        slots: M, denoising slots, which come first.
        groups: G, which divides M.
        queries: N.
        device: where to make it.
    """
    group = torch.cat([torch.arange(slots, device=device) // (slots // groups), torch.full((queries,), -1, device=device)])
    seen = group[None, :]
    return (seen != group[:, None]) & (seen >= 0)


class DenoisingQueries(nn.Module):
    """A learned content a class, and the noised box as reference.

    Args:
        classes: C.
        dimension: D.
    """

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.classes = classes
        self.content = nn.Embedding(classes, dimension)

    def forward(self, noised: NoisedObjects) -> Queries:
        """Noised objects → M queries, whose class logits start at "nothing here"."""
        content = self.content(noised.labels) * (noised.objects >= 0)[..., None]
        logits = torch.full((*noised.labels.shape, self.classes), prior_bias(), device=content.device)
        return Queries(content, noised.boxes, logits, None)

    def join(self, noised: NoisedObjects, queries: Queries) -> tuple[Queries, Tensor]:
        """Denoising slots before ``queries``, and the mask that keeps them apart."""
        mine = self(noised)
        logits = None if queries.logits is None or mine.logits is None else torch.cat([mine.logits, queries.logits], 1)
        mask = denoising_mask(mine.boxes.shape[1], noised.groups, queries.boxes.shape[1], queries.boxes.device)
        joined = Queries(torch.cat([mine.content, queries.content], 1), torch.cat([mine.boxes, queries.boxes], 1), logits, None)
        return joined, mask
