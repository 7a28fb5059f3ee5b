"""Features of a whole box, pooled from memory: what a second stage looks at (Mask R-CNN, section 3, RoIAlign)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.encoder import Memory
from engine.models.heads import MLP, move_boxes, prior_bias
from engine.models.sampling import Sampler, read_grids

__all__ = ["MOVE_UNITS", "RegionAnswer", "RegionFeatures", "RegionStage"]

MOVE_UNITS = (0.1, 0.1, 0.2, 0.2)
"""In which the region stage counts moves: shares of the starting box's sides, and of the logarithms of the sizes' ratios."""


class RegionGrid(nn.Module):
    """A grid of points in every box, read from the level that fits the box's size.

    Args:
        side: S, points a row and column.
        largest_on_finest: the square root of a box's area, in tokens of the finest level, up to which it is read there; every further
            level takes boxes of twice the size.
    """

    sampler: Sampler

    def __init__(self, side: int, *, largest_on_finest: float = 10.0) -> None:
        super().__init__()
        self.side, self.largest_on_finest = side, largest_on_finest
        self.sampler = "auto"

    def _levels(self, boxes: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """The level of every box (B, N)."""
        height, width = shapes[0]
        size = (boxes[..., 2] * width * boxes[..., 3] * height).clamp(min=1e-6).sqrt()
        thresholds = self.largest_on_finest * 2.0 ** torch.arange(len(shapes) - 1, device=boxes.device)
        return (size[..., None] > thresholds).sum(-1)

    def forward(self, tokens: Tensor, shapes: list[tuple[int, int]], boxes: Tensor) -> Tensor:
        """Read.

        Args:
            tokens: memory (B, T, D), level after level.
            shapes: (height, width) of each level, finest first.
            boxes: (B, N, 4) as (cx, cy, w, h), normalised.

        Returns:
            (B, N, S² · D), of the kind of ``tokens``.
        """
        boxes = boxes.float()
        return read_grids(tokens, boxes, self.side, self._levels(boxes, shapes), shapes, self.sampler).flatten(2)


class RegionFeatures(RegionGrid):
    """A grid of points in every box, mixed into one vector.

    Deformable attention sees weighted sums, in which the place of a point is lost; here every point of the grid has weights of its own,
    so that where an edge runs inside the box is kept.

    Args:
        dimension: D, channels of memory and of the result.
        side: points a row and column.
        hidden: channels between the grid and the result; 0 for one linear layer.
    """

    def __init__(self, dimension: int, *, side: int = 7, hidden: int = 0) -> None:
        super().__init__(side)
        points = side * side * dimension
        self.mix: nn.Module = MLP(points, hidden, dimension, 2) if hidden else nn.Linear(points, dimension)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, tokens: Tensor, shapes: list[tuple[int, int]], boxes: Tensor) -> Tensor:
        """Memory (B, T, D) and boxes (B, N, 4) → (B, N, D)."""
        pooled: Tensor = self.norm(self.mix(super().forward(tokens, shapes, boxes)))
        return pooled


class RegionAnswer(NamedTuple):
    """What the region stage says of N boxes."""

    logits: Tensor
    """(B, N, C)."""
    boxes: Tensor
    """(B, N, 4) as (cx, cy, w, h), normalised."""
    content: Tensor
    """(B, N, D)."""


class RegionStage(nn.Module):
    """Classes and a better box from what a box shows, by a wide perceptron (Fast R-CNN, section 2), as two-stage detectors do.

    It has no norms and no attention and is much wider than the decoder, and so learns in a few hundred steps what the decoder's narrow
    layers need thousands for (docs/decisions/0013-a-region-stage-before-the-decoder.md). Moves are predicted in tenths of the box's size
    and fifths of its logarithm, so that they settle at high rates.

    Args:
        dimension: D.
        classes: C.
        side: points a row and column of the grid.
        channels: of memory, that are read (a thin map, as in Light-Head R-CNN, section 3); 0 for all D.
        hidden: channels of the perceptron's two layers.
        fine: channels of the backbone's map that is read as one more level, of twice the resolution; 0 for none.
    """

    def __init__(self, dimension: int, classes: int, *, side: int, channels: int, hidden: int, fine: int = 0) -> None:
        super().__init__()
        self.thin: nn.Module = nn.Linear(dimension, channels) if channels else nn.Identity()
        if isinstance(self.thin, nn.Linear):
            nn.init.orthogonal_(self.thin.weight)
            nn.init.zeros_(self.thin.bias)
        self.lateral = nn.Linear(fine, channels or dimension) if fine else None
        if self.lateral is not None:
            nn.init.kaiming_uniform_(self.lateral.weight, a=1)
            nn.init.zeros_(self.lateral.bias)
        self.grid = RegionGrid(side, largest_on_finest=14.0)
        points = side * side * (channels or dimension)
        self.mix = nn.Sequential(nn.Linear(points, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.ReLU(inplace=True))
        self.classes = nn.Linear(hidden, classes)
        self.moves = nn.Linear(hidden, 4)
        self.content = nn.Sequential(nn.Linear(hidden, dimension), nn.LayerNorm(dimension))
        self.register_buffer("units", torch.tensor(MOVE_UNITS), persistent=False)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, prior_bias())
        nn.init.zeros_(self.moves.weight)
        nn.init.zeros_(self.moves.bias)

    units: Tensor

    def view(self, memory: Memory) -> tuple[Tensor, list[tuple[int, int]]]:
        """What is read of memory: thin tokens (B, T', C) and the (height, width) of their levels."""
        tokens: Tensor = self.thin(memory.tokens)
        if self.lateral is None:
            return tokens, memory.shapes
        assert memory.fine is not None
        height, width = memory.shapes[0]
        batch, _, channels = tokens.shape
        below = tokens[:, : height * width].view(batch, height, 1, width, 1, channels)
        fine = self.lateral(memory.fine.permute(0, 2, 3, 1)).view(batch, height, 2, width, 2, channels) + below
        return torch.cat([fine.flatten(1, 4), tokens], 1), [(2 * height, 2 * width), *memory.shapes]

    def forward(self, tokens: Tensor, shapes: list[tuple[int, int]], boxes: Tensor) -> RegionAnswer:
        """Answer for boxes.

        Args:
            tokens: of the :meth:`view` (B, T', C), level after level.
            shapes: (height, width) of each level, finest first.
            boxes: (B, N, 4) as (cx, cy, w, h), normalised.
        """
        batch, count, _ = boxes.shape
        seen = self.mix(self.grid(tokens, shapes, boxes).flatten(0, 1))  # in one product, which exports with its bias inside
        logits, moves, content = (part(seen).view(batch, count, -1) for part in (self.classes, self.moves, self.content))
        return RegionAnswer(logits.float(), move_boxes(boxes, moves.float() * self.units), content)
