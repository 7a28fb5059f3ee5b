"""Multi-scale deformable attention (Deformable DETR, section 4.1, equation 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MultiScaleDeformableAttention"]


class MultiScaleDeformableAttention(nn.Module):
    """Every query looks at a few learned points around its reference, on every level, in every head.

    Args:
        dimension: D, channels of queries and memory.
        heads: H, which divides D.
        levels: L, feature levels in memory.
        points: P, sampling points a head and level.
    """

    def __init__(self, dimension: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dimension, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dimension, heads * levels * points)
        self.value_projection = nn.Linear(dimension, dimension)
        self.output_projection = nn.Linear(dimension, dimension)
        self._reset()

    def _reset(self) -> None:
        """Start with points on a ray a head, one step further each, and equal weights (the paper's initialisation)."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        rays = torch.stack([angles.cos(), angles.sin()], -1)
        rays = rays / rays.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)
        offsets = rays[:, None, None, :] * steps[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
            self.attention_weights.weight.zero_()
            self.attention_weights.bias.zero_()
        nn.init.xavier_uniform_(self.value_projection.weight)
        nn.init.zeros_(self.value_projection.bias)
        nn.init.xavier_uniform_(self.output_projection.weight)
        nn.init.zeros_(self.output_projection.bias)

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Gather from memory around the references.

        Args:
            query: (B, Q, D), position included.
            reference: (B, Q, 2) centres, or (B, Q, 4) boxes as (cx, cy, w, h); normalised. With boxes an offset of
                ``points`` reaches the edge of the box; with centres an offset of one is one token of the level.
            memory: (B, T, D), the tokens of all levels.
            shapes: (height, width) of each level.

        Returns:
            (B, Q, D).
        """
        batch, queries, _ = query.shape
        offsets = self.sampling_offsets(query).float().view(batch, queries, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).float().view(batch, queries, self.heads, self.levels * self.points)
        weights = weights.softmax(-1).view(batch, queries, self.heads, self.levels, self.points)
        value = self.value_projection(memory).float()
        gathered: Tensor | None = None
        start = 0
        for level, (height, width) in enumerate(shapes):
            count = height * width
            tokens = value[:, start : start + count].view(batch, height, width, self.heads, -1)
            start += count
            grid_map = tokens.permute(0, 3, 4, 1, 2).flatten(0, 1)
            if reference.shape[-1] == 4:
                step = reference[:, :, None, None, 2:].float() * (0.5 / self.points)
            else:
                step = offsets.new_tensor([1 / width, 1 / height])
            places = reference[:, :, None, None, :2].float() + offsets[:, :, :, level] * step
            grid = (places * 2 - 1).permute(0, 2, 1, 3, 4).flatten(0, 1)
            sampled = functional.grid_sample(grid_map, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            share = weights[:, :, :, level].permute(0, 2, 1, 3).flatten(0, 1)[:, None]
            part = (sampled * share).sum(-1)
            gathered = part if gathered is None else gathered + part
        assert gathered is not None
        joined = gathered.view(batch, -1, queries).transpose(1, 2)
        output: Tensor = self.output_projection(joined)
        return output
