"""The dense decoder: every query attends to every token (DETR, section 3.2 and appendix A.4)."""

from __future__ import annotations

from torch import Tensor, nn

from engine.models.decoder_deformable import Decoded
from engine.models.encoder import Memory
from engine.models.encoder_dense import draw_as_detr
from engine.models.heads import MLP
from engine.models.queries import Queries

__all__ = ["DenseDecoder"]


class DenseDecoderLayer(nn.Module):
    """Self-attention among queries, attention into memory, feed-forward; positions join queries and keys, never values."""

    def __init__(self, dimension: int, heads: int, feedforward: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.self_attention = nn.MultiheadAttention(dimension, heads, dropout=dropout, batch_first=True)
        self.self_norm = nn.LayerNorm(dimension)
        self.cross_attention = nn.MultiheadAttention(dimension, heads, dropout=dropout, batch_first=True)
        self.cross_norm = nn.LayerNorm(dimension)
        self.feedforward = MLP(dimension, feedforward, dimension, 2, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def _among(self, content: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        placed = content + position
        attended: Tensor = self.dropout(self.self_attention(placed, placed, content, attn_mask=mask, need_weights=False)[0])
        return attended

    def _look(self, placed: Tensor, memory: Memory) -> Tensor:
        keys = memory.tokens if memory.position is None else memory.tokens + memory.position
        seen: Tensor = self.dropout(self.cross_attention(placed, keys, memory.tokens, need_weights=False)[0])
        return seen

    def forward(self, content: Tensor, position: Tensor, memory: Memory, mask: Tensor | None) -> Tensor:
        """Content (B, N, D) → (B, N, D)."""
        if self.pre_norm:
            content = content + self._among(self.self_norm(content), position, mask)
            content = content + self._look(self.cross_norm(content) + position, memory)
            output: Tensor = content + self.dropout(self.feedforward(self.feedforward_norm(content)))
        else:
            content = self.self_norm(content + self._among(content, position, mask))
            content = self.cross_norm(content + self._look(content + position, memory))
            output = self.feedforward_norm(content + self.dropout(self.feedforward(content)))
        return output


class DenseDecoder(nn.Module):
    """``layers`` decoder layers, one last norm and one box head that all layers share.

    Args:
        dimension: D.
        heads: attention heads.
        feedforward: channels inside the feed-forward parts.
        layers: how many.
        norm: "post" as in the paper, or "pre".
        dropout: share of channels.
    """

    def __init__(self, dimension: int, *, heads: int, feedforward: int, layers: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseDecoderLayer(dimension, heads, feedforward, norm=norm, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension)
        draw_as_detr(self)
        self.box_head = MLP(dimension, dimension, 4, 3)

    def forward(self, memory: Memory, queries: Queries, self_attention_mask: Tensor | None = None) -> Decoded:
        """Decode the queries; their reference boxes are not looked at.

        Args:
            memory: from the dense encoder.
            queries: N queries with positions.
            self_attention_mask: (N, N), True where attention is forbidden.
        """
        assert queries.position is not None
        position = queries.position if queries.extra_position is None else queries.position + queries.extra_position
        content = queries.content
        contents: list[Tensor] = []
        boxes: list[Tensor] = []
        for layer in self.layers:
            content = layer(content, position, memory, self_attention_mask)
            contents.append(self.norm(content))
            boxes.append(self.box_head(contents[-1]).float().sigmoid())
        return Decoded(contents, boxes, [queries.boxes] * len(boxes))
