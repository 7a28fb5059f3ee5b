"""The deformable decoder with iterative box refinement (Deformable DETR, sections 4.2 and A.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.attention import MultiScaleDeformableAttention
from engine.models.encoder import Memory
from engine.models.heads import MLP, move_boxes
from engine.models.position import sine_embedding
from engine.models.queries import Queries

__all__ = ["Decoded", "DeformableDecoder"]


class Decoded(NamedTuple):
    """The decoder's state after every layer."""

    content: list[Tensor]
    """(B, N, D) a layer."""
    boxes: list[Tensor]
    """(B, N, 4) a layer, as (cx, cy, w, h), normalised."""


class DecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention into memory, feed-forward; post-norm."""

    def __init__(self, dimension: int, heads: int, levels: int, points: int, feedforward: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(dimension, heads, batch_first=True)
        self.self_norm = nn.LayerNorm(dimension)
        self.cross_attention = MultiScaleDeformableAttention(dimension, heads, levels, points)
        self.cross_norm = nn.LayerNorm(dimension)
        self.feedforward = MLP(dimension, feedforward, dimension, 2)
        self.feedforward_norm = nn.LayerNorm(dimension)

    def forward(self, content: Tensor, position: Tensor, boxes: Tensor, memory: Memory, mask: Tensor | None) -> Tensor:
        """Content (B, N, D) → (B, N, D)."""
        placed = content + position
        attended = self.self_attention(placed, placed, content, attn_mask=mask, need_weights=False)[0]
        content = self.self_norm(content + attended)
        content = self.cross_norm(content + self.cross_attention(content + position, boxes, memory.tokens, memory.shapes))
        output: Tensor = self.feedforward_norm(content + self.feedforward(content))
        return output


class DeformableDecoder(nn.Module):
    """``layers`` decoder layers; each moves the boxes that the one before gave it."""

    def __init__(self, dimension: int, *, heads: int, levels: int, points: int, feedforward: int, layers: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.layers = nn.ModuleList(DecoderLayer(dimension, heads, levels, points, feedforward) for _ in range(layers))
        self.box_heads = nn.ModuleList(MLP(dimension, dimension, 4, 3).start_at_zero() for _ in range(layers))
        self.box_position = MLP(2 * dimension, dimension, dimension, 2)

    def forward(self, memory: Memory, queries: Queries, self_attention_mask: Tensor | None = None) -> Decoded:
        """Decode the queries.

        Gradients of a layer's boxes reach its own head alone: references are detached between layers.

        Args:
            memory: from the encoder.
            queries: N queries.
            self_attention_mask: (N, N), True where attention is forbidden.
        """
        content, boxes = queries.content, queries.boxes
        contents: list[Tensor] = []
        refined: list[Tensor] = []
        for layer, head in zip(self.layers, self.box_heads, strict=True):
            position = self.box_position(sine_embedding(boxes, self.dimension // 2))
            if queries.extra_position is not None:
                position = position + queries.extra_position
            content = layer(content, position, boxes, memory, self_attention_mask)
            moved = move_boxes(boxes, head(content).float())
            contents.append(content)
            refined.append(moved)
            boxes = torch.cat([moved[..., :2].detach(), moved[..., 2:].detach().clamp(min=1e-4)], -1)
        return Decoded(contents, refined)
