"""Multi-scale deformable attention (Deformable DETR, section 4.1, equation 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.sampling import Sampler, sample

__all__ = ["MultiScaleDeformableAttention"]

_VECTOR = 16
"""Numbers that the widest registers of a CPU hold, in float32."""


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last dimension (…, K); on a CPU in rows that fill its vector registers, which is several times as quick."""
    count = logits.shape[-1]
    spare = -count % _VECTOR
    if not spare or logits.device.type != "cpu" or torch.compiler.is_compiling():
        return logits.softmax(-1)
    return functional.pad(logits, (0, spare), value=-torch.inf).softmax(-1)[..., :count]


class MultiScaleDeformableAttention(nn.Module):
    """Every query looks at a few learned points around its reference, on every level, in every head.

    Args:
        dimension: D, channels of queries and memory.
        heads: H, which divides D.
        levels: L, feature levels in memory.
        points: P, sampling points a head and level.

    ``sampler`` is the form in which points are sampled, see :mod:`engine.models.sampling`; it may be changed at any time.
    """

    sampler: Sampler

    def __init__(self, dimension: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampler = "auto"
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
        weights = _softmax(weights).view(batch, queries, self.heads, self.levels, self.points)
        value = self.value_projection(memory).float().view(batch, -1, self.heads, query.shape[-1] // self.heads)
        reference = reference.float()[:, :, None, None, None]
        if reference.shape[-1] == 4:
            step = reference[..., 2:] * (0.5 / self.points)
        else:
            step = offsets.new_tensor([[[1 / width, 1 / height]] for height, width in shapes])
        each = (-1, -1, 1, self.levels, self.points, 2)
        places = reference[..., :2].expand(each).contiguous() + offsets * step.expand(each[2:] if step.ndim < 6 else each).contiguous()
        output: Tensor = self.output_projection(sample(value, places, weights, shapes, self.sampler))
        return output
