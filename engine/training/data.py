"""Tiles as training samples: decoded pixels and boxes, batched in an order that a step number alone decides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.boxes import Boxes
from engine.errors import UnreadableImage
from engine.records import Ground

__all__ = [
    "Joined",
    "Part",
    "Relabelled",
    "Sample",
    "TileSamples",
    "TileSource",
    "pad_to_square",
    "read_batches",
    "readable",
    "step_generator",
    "step_seed",
    "stream_indices",
]


class Sample(NamedTuple):
    """One square training image."""

    image: Tensor
    """(3, S, S) uint8, RGB; black outside the tile."""
    boxes: Tensor
    """(n, 4) float32 as (x1, y1, x2, y2) in pixels."""
    labels: Tensor
    """(n,) int64."""
    tile: int = -1
    """The index of the tile that it was made from; -1 where that is not known, or there were several."""
    absence: float = 1.0
    """How much it counts, in [0, 1], that nothing is anywhere else: below 1 where not all objects are known."""
    ground: Ground | None = None
    """Where its source cut it out; None where that is not known, and of every changed copy."""

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Sample:
        """The same on a device."""
        image, boxes, labels = (part.to(device, non_blocking=non_blocking) for part in (self.image, self.boxes, self.labels))
        return self._replace(image=image, boxes=boxes, labels=labels)


class TileSource(Protocol):
    """Where samples come from; the workspace and plain folders provide it."""

    def __len__(self) -> int:
        """Number of tiles."""

    def sample(self, index: int) -> Sample:
        """The tile at ``index``.

        Raises:
            UnreadableImage: its pixels cannot be decoded.
        """

    def name(self, index: int) -> str:
        """What a message calls the tile at ``index``."""


def readable(source: TileSource, indices: Iterable[int]) -> Iterator[tuple[int, Sample]]:
    """The tiles at ``indices`` that can be read, each with its index; the others are passed over."""
    for index in indices:
        try:
            sample = source.sample(index)
        except UnreadableImage:
            continue
        yield index, sample


def read_batches(source: TileSource, indices: Iterable[int], size: int) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and images (b, 3, S, S) uint8 of the tiles that can be read, at most ``size`` at a time."""
    tiles = readable(source, indices)
    while batch := list(islice(tiles, size)):
        yield [index for index, _ in batch], torch.stack([sample.image for _, sample in batch])


def pad_to_square(pixels: NDArray[np.uint8], size: int) -> Tensor:
    """Pixels (H, W, 3) with H, W ≤ ``size`` → (3, size, size) uint8, black at the right and bottom.

    The channels of a pixel lie side by side in memory, which is quickest to resample.
    """
    image = torch.zeros(size, size, 3, dtype=torch.uint8)
    image[: pixels.shape[0], : pixels.shape[1]] = torch.from_numpy(np.ascontiguousarray(pixels))
    return image.permute(2, 0, 1)


class TileSamples:
    """Decoded tiles in memory.

    Args:
        images: pixels (H, W, 3) each.
        boxes: the boxes of each, in its pixels.
        size: side of the square samples.
        names: what messages call each; numbers where there are none.
    """

    def __init__(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Boxes], size: int, *, names: Sequence[str] | None = None
    ) -> None:
        assert len(images) == len(boxes)
        self._names = list(names or (f"number {index}" for index in range(len(images))))
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

    def name(self, index: int) -> str:
        """What a message calls the tile at ``index``."""
        return self._names[index]


class Part:
    """The tiles of a source at the rows (n,) that are given."""

    def __init__(self, source: TileSource, rows: NDArray[np.int64]) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._rows)

    def sample(self, index: int) -> Sample:
        """The tile at ``index``."""
        return self._source.sample(int(self._rows[index]))

    def name(self, index: int) -> str:
        """What a message calls the tile at ``index``."""
        return self._source.name(int(self._rows[index]))


class Relabelled:
    """Tiles with other boxes than their own: regions, or what a model found.

    Args:
        source: the tiles.
        boxes: (n, 4) of each, in its pixels.
        labels: (n,) of each.
        absence: how much it counts that nothing is anywhere else.
    """

    def __init__(self, source: TileSource, boxes: Sequence[Tensor], labels: Sequence[Tensor], *, absence: float = 1.0) -> None:
        assert len(source) == len(boxes) == len(labels)
        self._source, self._boxes, self._labels, self._absence = source, boxes, labels, absence

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._source)

    def sample(self, index: int) -> Sample:
        """The tile at ``index`` with the other boxes."""
        own = self._source.sample(index)
        return Sample(own.image, self._boxes[index], self._labels[index], absence=self._absence, ground=own.ground)

    def name(self, index: int) -> str:
        """What a message calls the tile at ``index``."""
        return self._source.name(index)


class Joined:
    """Tiles of several sources, one source after the other.

    Args:
        sources: each with how often its tiles come in an epoch.
    """

    def __init__(self, sources: Sequence[tuple[TileSource, int]]) -> None:
        self._places = [(source, index) for source, times in sources for _ in range(times) for index in range(len(source))]

    def __len__(self) -> int:
        """Number of tiles, repeated ones counted as often as they come."""
        return len(self._places)

    def sample(self, index: int) -> Sample:
        """The tile at ``index``."""
        source, place = self._places[index]
        return source.sample(place)

    def name(self, index: int) -> str:
        """What a message calls the tile at ``index``."""
        source, place = self._places[index]
        return source.name(place)


def step_seed(seed: int, step: int, purpose: str = "augment") -> int:
    """A number of 63 bits that depends on all three."""
    digest = hashlib.sha256(f"{seed} {step} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def step_generator(seed: int, step: int, purpose: str = "augment") -> torch.Generator:
    """The generator of one training step: a function of its arguments, so that a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed(step_seed(seed, step, purpose))


def stream_indices(count: int, first: int, end: int, seed: int) -> list[int]:
    """Tiles ``first`` to ``end`` of the stream of epochs, each a seeded permutation of all ``count`` tiles."""
    epochs = range(first // count, (end - 1) // count + 1)
    order = torch.cat([torch.randperm(count, generator=step_generator(seed, epoch, "epoch")) for epoch in epochs])
    indices: list[int] = order[first - epochs[0] * count : end - epochs[0] * count].tolist()
    return indices
