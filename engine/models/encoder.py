"""The multi-scale encoder: backbone maps → tokens that know one another, and a proposal at every token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.attention import MultiScaleDeformableAttention
from engine.models.heads import MLP, move_boxes, prior_bias
from engine.models.position import sine_embedding, token_centres

__all__ = ["DeformableEncoder", "Memory", "ProposalHead", "Proposals"]


class Memory(NamedTuple):
    """What the encoder hands to proposals and decoder."""

    tokens: Tensor
    """(B, T, D), level after level, row by row."""
    shapes: list[tuple[int, int]]
    """(height, width) of each level."""


class Proposals(NamedTuple):
    """One proposal a token."""

    logits: Tensor
    """(B, T, C)."""
    boxes: Tensor
    """(B, T, 4) as (cx, cy, w, h), normalised."""
    features: Tensor
    """(B, T, D)."""


class EncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward part; pre-norm, for high learning rates on few images."""

    def __init__(self, dimension: int, heads: int, levels: int, points: int, feedforward: int) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(dimension, heads, levels, points)
        self.attention_norm = nn.LayerNorm(dimension)
        self.feedforward = MLP(dimension, feedforward, dimension, 2)
        self.feedforward_norm = nn.LayerNorm(dimension)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Tokens (B, T, D) → (B, T, D)."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed + position, reference, normed, shapes)
        output: Tensor = tokens + self.feedforward(self.feedforward_norm(tokens))
        return output


class DeformableEncoder(nn.Module):
    """Projects each backbone level to D channels and lets all tokens attend to all levels (Deformable DETR, section 4.2)."""

    def __init__(self, channels: tuple[int, ...], dimension: int, *, heads: int, points: int, feedforward: int, layers: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dimension, 1), nn.GroupNorm(dimension // 8, dimension)) for width in channels
        )
        self.level_embedding = nn.Parameter(torch.randn(len(channels), dimension) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(dimension, heads, len(channels), points, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension)

    def forward(self, maps: list[Tensor]) -> Memory:
        """Backbone maps, finest first → memory."""
        projected = [projection(level) for projection, level in zip(self.projections, maps, strict=True)]
        shapes = [(int(level.shape[2]), int(level.shape[3])) for level in projected]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in projected], 1)
        centres = token_centres(shapes, tokens.device)
        position = sine_embedding(centres, self.dimension // 2)
        position = position + torch.cat(
            [embedding.expand(height * width, -1) for embedding, (height, width) in zip(self.level_embedding, shapes, strict=True)]
        )
        reference = centres[None].expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, position, reference, shapes)
        return Memory(self.norm(tokens), shapes)


class ProposalHead(nn.Module):
    """Classes and a box at every token, as a dense one-to-many detector would give them.

    The prior box of a token is a square of ``prior_tokens`` tokens' width around its centre. A tower of 3 × 3 convolutions, shared by
    all levels (as in RetinaNet, section 4), looks at each token's neighbours: where an edge runs is lost in attention's averages.
    """

    def __init__(self, dimension: int, classes: int, *, tower_layers: int = 2, prior_tokens: float = 3.0) -> None:
        super().__init__()
        self.prior_tokens = prior_tokens
        parts: list[nn.Module] = []
        for _ in range(tower_layers):
            parts += [
                nn.Conv2d(dimension, dimension, 3, padding=1, bias=False),
                nn.GroupNorm(dimension // 8, dimension),
                nn.ReLU(inplace=True),
            ]
        self.tower = nn.Sequential(*parts)
        self.classes = nn.Linear(dimension, classes)
        self.boxes = MLP(dimension, dimension, 4, 3).start_at_zero()
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, prior_bias())

    def priors(self, shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
        """Prior boxes (T, 4) as (cx, cy, w, h), normalised."""
        sizes = torch.cat(
            [
                torch.tensor([[self.prior_tokens / width, self.prior_tokens / height]], device=device).expand(height * width, -1)
                for height, width in shapes
            ]
        )
        return torch.cat([token_centres(shapes, device), sizes], -1)

    def _neighbourhoods(self, memory: Memory) -> Tensor:
        """The tower over each level's map, as tokens (B, T, D) again."""
        batch, _, dimension = memory.tokens.shape
        levels = torch.split(memory.tokens, [height * width for height, width in memory.shapes], dim=1)
        maps = [
            level.transpose(1, 2).reshape(batch, dimension, height, width)
            for level, (height, width) in zip(levels, memory.shapes, strict=True)
        ]
        return torch.cat([self.tower(level).flatten(2).transpose(1, 2) for level in maps], 1)

    def forward(self, memory: Memory) -> Proposals:
        """Memory → proposals, in float32."""
        features = self._neighbourhoods(memory)
        priors = self.priors(memory.shapes, features.device)
        boxes = move_boxes(priors, self.boxes(features).float())
        return Proposals(self.classes(features).float(), boxes, features)
