"""The deformable decoder with iterative box refinement (Deformable DETR, sections 4.2 and A.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.attention import MultiScaleDeformableAttention
from engine.models.encoder import Memory
from engine.models.heads import MLP, move_boxes, shift_boxes
from engine.models.position import sine_embedding
from engine.models.queries import Queries
from engine.models.regions import RegionFeatures

__all__ = ["Decoded", "DeformableDecoder"]


class Decoded(NamedTuple):
    """The decoder's state after every layer."""

    content: list[Tensor]
    """(B, N, D) a layer."""
    boxes: list[Tensor]
    """(B, N, 4) a layer, as (cx, cy, w, h), normalised."""
    starts: list[Tensor]
    """(B, N, 4) or (B, N, 2) a layer: the references that it started from, without gradient."""


class DecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention into memory, feed-forward; post-norm as in the paper, or pre-norm."""

    def __init__(
        self, dimension: int, heads: int, levels: int, points: int, feedforward: int, *, norm: str = "post", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.self_attention = nn.MultiheadAttention(dimension, heads, dropout=dropout, batch_first=True)
        self.self_norm = nn.LayerNorm(dimension)
        self.cross_attention = MultiScaleDeformableAttention(dimension, heads, levels, points)
        self.cross_norm = nn.LayerNorm(dimension)
        self.feedforward = MLP(dimension, feedforward, dimension, 2, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def _among(self, content: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        placed = content + position
        attended: Tensor = self.dropout(self.self_attention(placed, placed, content, attn_mask=mask, need_weights=False)[0])
        return attended

    def _look(self, placed: Tensor, boxes: Tensor, memory: Memory) -> Tensor:
        seen: Tensor = self.dropout(self.cross_attention(placed, boxes, memory.tokens, memory.shapes))
        return seen

    def forward(self, content: Tensor, position: Tensor, boxes: Tensor, memory: Memory, mask: Tensor | None) -> Tensor:
        """Content (B, N, D) → (B, N, D)."""
        if self.pre_norm:
            content = content + self._among(self.self_norm(content), position, mask)
            content = content + self._look(self.cross_norm(content) + position, boxes, memory)
            output: Tensor = content + self.dropout(self.feedforward(self.feedforward_norm(content)))
        else:
            content = self.self_norm(content + self._among(content, position, mask))
            content = self.cross_norm(content + self._look(content + position, boxes, memory))
            output = self.feedforward_norm(content + self.dropout(self.feedforward(content)))
        return output


class DeformableDecoder(nn.Module):
    """``layers`` decoder layers; each moves the boxes that the one before gave it.

    Args:
        dimension: D.
        heads: attention heads.
        levels: of memory.
        points: sampling points a head and level.
        feedforward: channels inside the feed-forward parts.
        layers: how many.
        norm: "post" or "pre"; with "pre" every layer's answer is normed once more, as in DETR's code.
        dropout: share of channels.
        box_moves: "relative" to the box's size, or of its "logit".
        refinement: False: all layers start from the same references and share one head.
        look_forward_twice: a layer's box is a move of the one before, gradient included (DINO, section 3.5).
        region_features: side of the grid of points read in every box; 0 for none.
        region_layers: the first so many layers get them.
        region_hidden: channels between the grid and the content.
    """

    def __init__(
        self,
        dimension: int,
        *,
        heads: int,
        levels: int,
        points: int,
        feedforward: int,
        layers: int,
        norm: str = "post",
        dropout: float = 0.0,
        box_moves: str = "relative",
        refinement: bool = True,
        look_forward_twice: bool = False,
        region_features: int = 0,
        region_layers: int = 1,
        region_hidden: int = 0,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self._move = move_boxes if box_moves == "relative" else shift_boxes
        self._refinement, self._twice = refinement, look_forward_twice
        self.layers = nn.ModuleList(
            DecoderLayer(dimension, heads, levels, points, feedforward, norm=norm, dropout=dropout) for _ in range(layers)
        )
        self.box_heads = nn.ModuleList(MLP(dimension, dimension, 4, 3).start_at_zero() for _ in range(layers if refinement else 1))
        self.regions = nn.ModuleList(
            RegionFeatures(dimension, side=region_features, hidden=region_hidden)
            for _ in range(min(region_layers, layers) if region_features else 0)
        )
        self.region_norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in self.regions)
        self.box_position = MLP(2 * dimension, dimension, dimension, 2)
        self.norm = nn.LayerNorm(dimension) if norm == "pre" else nn.Identity()

    @torch.no_grad()
    def start_small(self) -> None:
        """Boxes that start from points are an eighth of the tile until trained (the paper's code)."""
        last = self.box_heads[0].get_submodule("4").get_parameter("bias")
        last[2:] = -2.0

    def _position(self, queries: Queries, boxes: Tensor) -> Tensor:
        position = queries.position
        if position is None:
            position = self.box_position(sine_embedding(boxes, self.dimension // 2))
        return position if queries.extra_position is None else position + queries.extra_position

    def forward(self, memory: Memory, queries: Queries, self_attention_mask: Tensor | None = None) -> Decoded:
        """Decode the queries.

        Gradients of a layer's boxes reach its own head alone (and the one before where it looks forward twice): references are
        detached between layers.

        Args:
            memory: from the encoder.
            queries: N queries.
            self_attention_mask: (N, N), True where attention is forbidden.
        """
        content, boxes = queries.content, queries.boxes
        attached = boxes
        contents: list[Tensor] = []
        answers: list[Tensor] = []
        starts: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            starts.append(boxes)
            if index < len(self.regions):
                seen = self.regions[index](memory.tokens, memory.shapes, boxes)
                content = self.region_norms[index](content + seen)
            content = layer(content, self._position(queries, boxes), boxes, memory, self_attention_mask)
            said = self.norm(content)
            deltas = self.box_heads[min(index, len(self.box_heads) - 1)](said).float()
            contents.append(said)
            answers.append(self._move(attached if self._twice else boxes, deltas))
            if self._refinement:
                moved = self._move(boxes, deltas) if self._twice else answers[-1]
                attached = moved
                boxes = torch.cat([moved[..., :2].detach(), moved[..., 2:].detach().clamp(min=1e-4)], -1)
        return Decoded(contents, answers, starts)
