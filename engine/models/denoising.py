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
        config: K, how many an image (``region_truth``), and how far moved ones are moved (``region_noise``).
        generator: on the CPU.

    Returns:
        (B, K, 4) as (cx, cy, w, h), normalised: each object of the image as it is, in an order drawn anew, then moved copies in turns; an
        image of more objects shows K of them, one without any the whole tile. None where no image has an object.
    """
    wanted = config.region_truth
    if not wanted or not any(len(target.boxes) for target in targets):
        return None
    boxes = targets[0].boxes.new_tensor([0.5, 0.5, 1.0, 1.0]).repeat(len(targets), wanted, 1)
    for image, target in enumerate(targets):
        count = len(target.boxes)
        if not count:
            continue
        turns = torch.randperm(count, generator=generator).repeat(-(-wanted // count))[:wanted]
        boxes[image] = target.boxes[turns.to(target.boxes.device)]
        copies = boxes[image, count:]
        if len(copies):
            boxes[image, count:] = _move_corners(copies[None], torch.ones(len(copies), dtype=torch.bool), config.region_noise, generator)[0]
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
