"""The multi-scale encoder: backbone maps → tokens that know one another, and a proposal at every token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.attention import MultiScaleDeformableAttention
from engine.models.heads import MLP, move_boxes, prior_bias
from engine.models.position import map_position, sine_embedding, token_centres

__all__ = ["DeformableEncoder", "Memory", "ProposalHead", "Proposals"]


class Memory(NamedTuple):
    """What the encoder hands to proposals and decoder."""

    tokens: Tensor
    """(B, T, D), level after level, row by row."""
    shapes: list[tuple[int, int]]
    """(height, width) of each level."""
    position: Tensor | None = None
    """(T, D) position embeddings, which join the keys of dense attention."""
    fine: Tensor | None = None
    """(B, C, 2·H, 2·W) the backbone's level before the finest (H, W) of the tokens, as it is; None where nobody reads it."""


class Proposals(NamedTuple):
    """One proposal a token."""

    logits: Tensor
    """(B, T, C)."""
    boxes: Tensor
    """(B, T, 4) as (cx, cy, w, h), normalised."""
    features: Tensor
    """(B, T, D)."""
    priors: Tensor | None = None
    """(T, 4) the boxes that the proposals move; None where nothing is supervised one-to-many."""


class EncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward part; pre-norm, for high learning rates on few images, or post-norm as in the paper."""

    def __init__(
        self, dimension: int, heads: int, levels: int, points: int, feedforward: int, *, norm: str = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.attention = MultiScaleDeformableAttention(dimension, heads, levels, points)
        self.attention_norm = nn.LayerNorm(dimension)
        self.feedforward = MLP(dimension, feedforward, dimension, 2, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Tokens (B, T, D) → (B, T, D)."""
        if self.pre_norm:
            normed = self.attention_norm(tokens)
            tokens = tokens + self.dropout(self.attention(normed + position, reference, normed, shapes))
            output: Tensor = tokens + self.dropout(self.feedforward(self.feedforward_norm(tokens)))
        else:
            tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens + position, reference, tokens, shapes)))
            output = self.feedforward_norm(tokens + self.dropout(self.feedforward(tokens)))
        return output


def _projection(inputs: int, outputs: int, side: int, *, stride: int = 1, norm: bool = True) -> nn.Sequential:
    """A convolution to D channels and a group norm, or one that keeps the variance of what it reads."""
    convolution = nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2)
    if norm:
        return nn.Sequential(convolution, nn.GroupNorm(outputs // 8, outputs))
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution)


class TopDown(nn.Module):
    """Adds every level, doubled in size, to the next finer one, and smooths the sums (FPN, section 3).

    Args:
        dimension: D.
        levels: L.
        norms: group norms behind the convolutions.
    """

    def __init__(self, dimension: int, levels: int, *, norms: bool = True) -> None:
        super().__init__()
        self.smooth = nn.ModuleList(_projection(dimension, dimension, 3, norm=norms) for _ in range(levels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (B, D, H_l, W_l), finest first → the same shapes."""
        joined = [maps[-1]]
        for level in reversed(maps[:-1]):
            joined.insert(0, level + functional.interpolate(joined[0], size=level.shape[2:], mode="nearest"))
        return [smooth(level) for smooth, level in zip(self.smooth, joined, strict=True)]


class DeformableEncoder(nn.Module):
    """Projects each backbone level to D channels and lets all tokens attend to all levels (Deformable DETR, section 4.2).

    Args:
        channels: of the backbone's levels, finest first.
        dimension: D.
        heads: attention heads.
        points: sampling points a head and level.
        feedforward: channels inside the feed-forward parts.
        layers: how many.
        norm: "pre" or "post".
        dropout: share of channels.
        position: "fine" or "paper" sine embeddings.
        extra_level: one more level from the coarsest map (appendix A.4).
        pyramid: a top-down pathway before the layers.
        pyramid_norms: False leaves out the group norms and the norm behind pre-norm layers, where there is a pyramid.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        dimension: int,
        *,
        heads: int,
        points: int,
        feedforward: int,
        layers: int,
        norm: str = "pre",
        dropout: float = 0.0,
        position: str = "fine",
        extra_level: bool = False,
        pyramid: bool = False,
        pyramid_norms: bool = True,
    ) -> None:
        super().__init__()
        self.dimension, self._position = dimension, position
        norms = pyramid_norms or not pyramid
        self.projections = nn.ModuleList(_projection(width, dimension, 1, norm=norms) for width in channels)
        if extra_level:
            self.projections.append(_projection(channels[-1], dimension, 3, stride=2, norm=norms))
        levels = len(self.projections)
        self.pyramid: nn.Module = TopDown(dimension, levels, norms=norms) if pyramid else nn.Identity()
        self.level_embedding = nn.Parameter(torch.randn(levels, dimension) * 0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(dimension, heads, levels, points, feedforward, norm=norm, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dimension) if norm == "pre" and layers and norms else nn.Identity()

    def _embed(self, shapes: list[tuple[int, int]], centres: Tensor) -> Tensor:
        """Position (T, D) of all tokens, their level included."""
        if self._position == "paper":
            position = map_position(shapes, self.dimension, centres.device, centred=True)
        else:
            position = sine_embedding(centres, self.dimension // 2)
        return position + torch.cat(
            [embedding.expand(height * width, -1) for embedding, (height, width) in zip(self.level_embedding, shapes, strict=True)]
        )

    def forward(self, maps: list[Tensor]) -> Memory:
        """Backbone maps, finest first → memory."""
        sources = [*maps, maps[-1]] if len(self.projections) > len(maps) else maps
        projected = self.pyramid([projection(level) for projection, level in zip(self.projections, sources, strict=True)])
        shapes = [(int(level.shape[2]), int(level.shape[3])) for level in projected]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in projected], 1)
        centres = token_centres(shapes, tokens.device)
        position = self._embed(shapes, centres)
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
        batch, count, _ = features.shape
        logits, moves = (head(features.flatten(0, 1)).view(batch, count, -1).float() for head in (self.classes, self.boxes))
        return Proposals(logits, move_boxes(priors, moves), features, priors)
