"""Tiles as training samples: decoded pixels and boxes, batched in an order that a step number alone decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.boxes import Boxes

__all__ = ["Sample", "TileSamples", "TileSource", "batch_indices", "pad_to_square", "step_generator"]


class Sample(NamedTuple):
    """One square training image."""

    image: Tensor
    """(3, S, S) uint8, RGB; black outside the tile."""
    boxes: Tensor
    """(n, 4) float32 as (x1, y1, x2, y2) in pixels."""
    labels: Tensor
    """(n,) int64."""


class TileSource(Protocol):
    """Where samples come from; the workspace and plain folders provide it."""

    def __len__(self) -> int:
        """Number of tiles."""

    def sample(self, index: int) -> Sample:
        """The tile at ``index``."""


def pad_to_square(pixels: NDArray[np.uint8], size: int) -> Tensor:
    """Pixels (H, W, 3) with H, W ≤ ``size`` → (3, size, size) uint8, black at the right and bottom."""
    image = torch.zeros(3, size, size, dtype=torch.uint8)
    image[:, : pixels.shape[0], : pixels.shape[1]] = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    return image


class TileSamples:
    """Decoded tiles in memory.

    Args:
        images: pixels (H, W, 3) each.
        boxes: the boxes of each, in its pixels.
        size: side of the square samples.
    """

    def __init__(self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Boxes], size: int) -> None:
        assert len(images) == len(boxes)
        self._samples = [
            Sample(
                pad_to_square(pixels, size),
                torch.from_numpy(known.xyxy.astype(np.float32)),
                torch.from_numpy(known.labels),
            )
            for pixels, known in zip(images, boxes, strict=True)
        ]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._samples)

    def sample(self, index: int) -> Sample:
        """The tile at ``index``."""
        return self._samples[index]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one training step: a function of seed and step, so that a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % (2**63))


def batch_indices(count: int, batch: int, seed: int, step: int) -> list[int]:
    """The tiles of a step: epochs of a seeded permutation each, cut into batches that may cross epochs."""
    first, end = step * batch, (step + 1) * batch
    epochs = range(first // count, (end - 1) // count + 1)
    order = torch.cat([torch.randperm(count, generator=step_generator(seed, -1 - epoch)) for epoch in epochs])
    indices: list[int] = order[first - epochs[0] * count : end - epochs[0] * count].tolist()
    return indices
