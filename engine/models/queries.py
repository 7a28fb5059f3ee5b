"""Where the decoder's queries come from: the encoder's proposals, or learned slots, which may carry a query patch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.encoder import Proposals
from engine.models.heads import MLP, prior_bias
from engine.models.position import interleaved_sine_embedding

__all__ = [
    "CoordinateQueries",
    "DenseQueries",
    "LearnedQueries",
    "PatchQueries",
    "Queries",
    "block_mask",
    "select_proposals",
]


class Queries(NamedTuple):
    """What the decoder starts from."""

    content: Tensor
    """(B, N, D)."""
    boxes: Tensor
    """(B, N, 4) reference boxes as (cx, cy, w, h), normalised, or points (B, N, 2); those of proposals carry no gradient. The dense decoder
    does not look at them."""
    logits: Tensor | None
    """(B, N, C) class logits that the decoder corrects, without gradient; None where there are none yet."""
    extra_position: Tensor | None
    """(B, N, D) that joins the queries' position in attention; None for plain queries."""
    position: Tensor | None = None
    """(B, N, D) position in attention, the same in all layers; None where it is embedded anew from each layer's boxes."""


def _pairwise_iou(boxes: Tensor) -> Tensor:
    """IoU (B, K, K) of boxes (B, K, 4) as (x1, y1, x2, y2); in plain operators, so that it exports."""
    left, top, right, bottom = boxes.unbind(-1)

    def shared(low: Tensor, high: Tensor) -> Tensor:
        """How much of an axis each pair has in common; axis by axis, for pairs of coordinates are slow to work on."""
        ends, starts = torch.minimum(high[:, :, None], high[:, None]), torch.maximum(low[:, :, None], low[:, None])
        return (ends - starts).clamp(min=0)

    intersection = shared(left, right) * shared(top, bottom)
    area = (right - left) * (bottom - top)
    return intersection / (area[:, :, None] + area[:, None, :] - intersection).clamp(min=1e-9)


def select_proposals(proposals: Proposals, count: int, *, candidates: int, iou_threshold: float) -> Queries:
    """The best ``count`` proposals, duplicates last.

    Of the ``candidates`` proposals with the highest scores, those that overlap a better one of the same class by more than
    ``iou_threshold`` stand behind all others (one-pass suppression, as YOLACT's Fast NMS, section 5); so a query is spent on
    a duplicate only when nothing else is left. With ``iou_threshold`` 1 nothing counts as a duplicate.
    """
    candidates = min(candidates, proposals.logits.shape[1])
    count = min(count, candidates)
    best, label = proposals.logits.max(-1)
    score, index = best.topk(candidates, dim=1)
    if iou_threshold < 1:
        boxes = proposals.boxes.gather(1, index[..., None].expand(-1, -1, 4)).detach()
        label = label.gather(1, index)
        corners = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
        same_class = label[:, :, None] == label[:, None, :]
        overlap = (_pairwise_iou(corners) * same_class).triu(diagonal=1).amax(1)
        ranking = torch.where(overlap > iou_threshold, score.detach() - 1e4, score.detach())
        index = index.gather(1, ranking.topk(count, dim=1).indices)
    else:
        index = index[:, :count]

    def pick(values: Tensor) -> Tensor:
        return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

    return Queries(pick(proposals.features), pick(proposals.boxes).detach(), pick(proposals.logits).detach(), None)


def block_mask(queries: int, groups: int, device: torch.device) -> Tensor:
    """Self-attention mask (N, N), True where attention is forbidden: a query sees its own group alone (UP-DETR, section 3.2).

    Raises:
        ValueError: ``groups`` does not divide ``queries``.
    """
    if queries % groups:
        raise ValueError(f"{groups} groups do not divide {queries} queries")
    group = torch.arange(queries, device=device) // (queries // groups)
    return group[:, None] != group[None, :]


class PatchQueries(nn.Module):
    """Learned slots, to which the feature of a query patch is added (UP-DETR, section 3.1, on the deformable core).

    The patch's feature joins content and attention position; the reference boxes come from the slots alone, so that appearance
    does not shift the spatial prior. The heads for what a slot found (there or not, and what it looks like) belong here too.

    Args:
        count: N slots.
        dimension: D.
        patch_channels: channels of the backbone's last map, whose mean describes a patch.
    """

    def __init__(self, count: int, dimension: int, patch_channels: int) -> None:
        super().__init__()
        self.count = count
        self.content = nn.Embedding(count, dimension)
        self.centre_logits = nn.Parameter(torch.randn(count, 2))
        self.size_logits = nn.Parameter(torch.full((count, 2), -1.5))
        self.patch = nn.Linear(patch_channels, dimension)
        self.norm = nn.LayerNorm(dimension)
        self.matched = nn.Linear(dimension, 1)
        self.reconstruction = MLP(dimension, dimension, patch_channels, 2)
        nn.init.constant_(self.matched.bias, prior_bias())

    def forward(self, patch_features: Tensor, keep: Tensor | None = None, order: Tensor | None = None) -> Queries:
        """Place patches in slots.

        Args:
            patch_features: (B, M, C_5), M dividing N; patch m goes to places m·N/M … (m+1)·N/M − 1.
            keep: (B, N) 0 where a place does not get its patch (UP-DETR's query dropout), else 1.
            order: (N,) the slot at every place, a permutation (UP-DETR's object query shuffle); None for slot i at place i.
        """
        batch, patches, _ = patch_features.shape
        carried = self.norm(self.patch(patch_features)).repeat_interleave(self.count // patches, dim=1)
        if keep is not None:
            carried = carried * keep[..., None]
        content, starts = self.content.weight, torch.cat([self.centre_logits, self.size_logits], -1)
        if order is not None:
            content, starts = content[order], starts[order]
        return Queries(content[None] + carried, starts.sigmoid()[None].expand(batch, -1, -1), None, carried)


class LearnedQueries(nn.Module):
    """Content and position a slot, and a reference point read off the position (Deformable DETR, section 4.2).

    Args:
        count: N slots.
        dimension: D.
    """

    def __init__(self, count: int, dimension: int) -> None:
        super().__init__()
        self.content = nn.Embedding(count, dimension)
        self.position = nn.Embedding(count, dimension)
        self.reference = nn.Linear(dimension, 2)
        nn.init.xavier_uniform_(self.reference.weight)
        nn.init.zeros_(self.reference.bias)

    def forward(self, batch: int) -> Queries:
        """The slots, once an image."""
        position = self.position.weight[None].expand(batch, -1, -1)
        return Queries(self.content.weight[None].expand(batch, -1, -1), self.reference(position).sigmoid(), None, None, position)


class CoordinateQueries(nn.Module):
    """Content and position embedded from the box of a proposal (Deformable DETR, section A.4, as its code has it).

    Args:
        dimension: D.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.embed = nn.Linear(2 * dimension, 2 * dimension)
        self.norm = nn.LayerNorm(2 * dimension)

    def forward(self, boxes: Tensor) -> Queries:
        """Boxes (B, N, 4) → queries."""
        position, content = self.norm(self.embed(interleaved_sine_embedding(boxes, self.dimension // 2))).chunk(2, -1)
        return Queries(content, boxes, None, None, position)


class DenseQueries(nn.Module):
    """DETR's object queries: a learned position and no content; a query patch joins the position (UP-DETR, section 3.1).

    The slots are the same in pre-training and in detection, and so are pre-trained. The heads for what a slot found belong here too.

    Args:
        count: N slots.
        dimension: D.
        patch_channels: channels of the backbone's last map, whose mean describes a patch.
    """

    def __init__(self, count: int, dimension: int, patch_channels: int) -> None:
        super().__init__()
        self.count = count
        self.position = nn.Embedding(count, dimension)
        self.patch = nn.Linear(patch_channels, dimension)
        self.matched = nn.Linear(dimension, 1)
        self.reconstruction = MLP(dimension, dimension, patch_channels, 2)
        nn.init.constant_(self.matched.bias, prior_bias())

    def plain(self, batch: int) -> Queries:
        """The slots without patches, once an image."""
        position = self.position.weight[None].expand(batch, -1, -1)
        return Queries(torch.zeros_like(position), position.new_zeros(batch, self.count, 4), None, None, position)

    def forward(self, patch_features: Tensor, keep: Tensor | None = None, order: Tensor | None = None) -> Queries:
        """Place patches in slots.

        Args:
            patch_features: (B, M, C_5), M dividing N; patch m goes to places m·N/M … (m+1)·N/M − 1.
            keep: (B, N) 0 where a place does not get its patch (UP-DETR's query dropout), else 1.
            order: (N,) the slot at every place, a permutation (UP-DETR's object query shuffle); None for slot i at place i.
        """
        batch, patches, _ = patch_features.shape
        carried = self.patch(patch_features).repeat_interleave(self.count // patches, dim=1)
        if keep is not None:
            carried = carried * keep[..., None]
        plain = self.plain(batch)
        if order is not None:
            assert plain.position is not None
            plain = plain._replace(position=plain.position[:, order])
        return plain._replace(extra_position=carried)
