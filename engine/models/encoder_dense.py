"""The dense encoder: every token of one feature level attends to every other (DETR, section 3.2 and appendix A.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.encoder import Memory
from engine.models.heads import MLP
from engine.models.position import map_position

__all__ = ["DenseEncoder", "draw_as_detr"]


def draw_as_detr(module: nn.Module) -> None:
    """Draw all matrices by Xavier's uniform rule, as DETR's code does."""
    for weight in module.parameters():
        if weight.dim() > 1:
            nn.init.xavier_uniform_(weight)


class DenseEncoderLayer(nn.Module):
    """Self-attention with positions on queries and keys, and a feed-forward part."""

    def __init__(self, dimension: int, heads: int, feedforward: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.attention = nn.MultiheadAttention(dimension, heads, dropout=dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(dimension)
        self.feedforward = MLP(dimension, feedforward, dimension, 2, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def _attend(self, tokens: Tensor, position: Tensor) -> Tensor:
        placed = tokens + position
        attended: Tensor = self.dropout(self.attention(placed, placed, tokens, need_weights=False)[0])
        return attended

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Tokens (B, T, D) → (B, T, D)."""
        if self.pre_norm:
            tokens = tokens + self._attend(self.attention_norm(tokens), position)
            output: Tensor = tokens + self.dropout(self.feedforward(self.feedforward_norm(tokens)))
        else:
            tokens = self.attention_norm(tokens + self._attend(tokens, position))
            output = self.feedforward_norm(tokens + self.dropout(self.feedforward(tokens)))
        return output


class DenseEncoder(nn.Module):
    """Projects one backbone level (C5 or C4) to D channels and lets all tokens see one another.

    Args:
        channels: of the backbone's map.
        dimension: D.
        heads: attention heads.
        feedforward: channels inside the feed-forward parts.
        layers: how many.
        norm: "post" as in the paper, or "pre", which ends with a norm.
        dropout: share of channels.
    """

    def __init__(self, channels: int, dimension: int, *, heads: int, feedforward: int, layers: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.dimension = dimension
        self.layers = nn.ModuleList(DenseEncoderLayer(dimension, heads, feedforward, norm=norm, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension) if norm == "pre" else nn.Identity()
        draw_as_detr(self)
        self.projection = nn.Conv2d(channels, dimension, 1)

    def forward(self, maps: list[Tensor]) -> Memory:
        """The one backbone map → memory."""
        (level,) = maps
        projected = self.projection(level)
        shapes = [(int(projected.shape[2]), int(projected.shape[3]))]
        position = map_position(shapes, self.dimension, torch.device(projected.device), centred=False)
        tokens = projected.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, position)
        return Memory(self.norm(tokens), shapes, position)
