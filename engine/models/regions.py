"""Features of a whole box, pooled from memory: what a second stage looks at (Mask R-CNN, section 3, RoIAlign)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.sampling import Sampler, sample

__all__ = ["RegionFeatures"]


class RegionFeatures(nn.Module):
    """A grid of points in every box, read from the level that fits the box's size, and all of them mixed into one vector.

    Deformable attention sees weighted sums, in which the place of a point is lost; here every point of the grid has weights of its own,
    so that where an edge runs inside the box is kept.

    Args:
        dimension: D, channels of memory and of the result.
        side: points a row and column.
        hidden: channels between the grid and the result; 0 for one linear layer.
        largest_on_finest: the square root of a box's area, in tokens of the finest level, up to which it is read there; every further
            level takes boxes of twice the size.
    """

    sampler: Sampler

    def __init__(self, dimension: int, *, side: int = 7, hidden: int = 0, largest_on_finest: float = 10.0) -> None:
        super().__init__()
        self.side, self.largest_on_finest = side, largest_on_finest
        self.sampler = "auto"
        points = side * side * dimension
        self.mix: nn.Module = nn.Linear(points, dimension)
        if hidden:
            self.mix = nn.Sequential(nn.Linear(points, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dimension))
        self.norm = nn.LayerNorm(dimension)
        steps = (torch.arange(side) + 0.5) / side - 0.5
        self.register_buffer("grid", torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2), persistent=False)

    grid: Tensor

    def _levels(self, boxes: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """The level of every box as a one-hot vector (B, N, L)."""
        height, width = shapes[0]
        size = (boxes[..., 2] * width * boxes[..., 3] * height).clamp(min=1e-6).sqrt()
        thresholds = self.largest_on_finest * 2.0 ** torch.arange(len(shapes) - 1, device=boxes.device)
        level = (size[..., None] > thresholds).sum(-1)
        return nn.functional.one_hot(level, len(shapes)).to(boxes.dtype)

    def forward(self, tokens: Tensor, shapes: list[tuple[int, int]], boxes: Tensor) -> Tensor:
        """Pool.

        Args:
            tokens: memory (B, T, D), level after level.
            shapes: (height, width) of each level, finest first.
            boxes: (B, N, 4) as (cx, cy, w, h), normalised.

        Returns:
            (B, N, D).
        """
        batch, count, _ = boxes.shape
        boxes = boxes.float()
        places = boxes[:, :, None, :2] + self.grid * boxes[:, :, None, 2:]
        places = places.flatten(1, 2)[:, :, None, None, None].expand(-1, -1, -1, len(shapes), -1, -1)
        levels = self._levels(boxes, shapes).repeat_interleave(self.side**2, dim=1)[:, :, None, :, None]
        seen = sample(tokens.float()[:, :, None], places, levels, shapes, self.sampler)
        pooled: Tensor = self.norm(self.mix(seen.reshape(batch, count, -1)))
        return pooled
