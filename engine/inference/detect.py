"""A detector over the windows of a scene of any size, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes
from engine.label_set import LabelSet
from engine.progress import Progress
from engine.records import Window

__all__ = ["TileDetector", "WindowReader", "detect_windows"]

Pixels = NDArray[np.uint8]
Floats32 = NDArray[np.float32]


class TileDetector(Protocol):
    """What detecting needs of a model: an exported one in ONNX Runtime, or a fake in tests."""

    @property
    def tile(self) -> int:
        """Side of the square input, in pixels."""

    @property
    def label_set(self) -> LabelSet:
        """The classes, in the order of the scores."""

    def run(self, images: Pixels) -> tuple[Floats32, Floats32]:
        """Detect on a batch.

        Args:
            images: RGB (B, tile, tile, 3).

        Returns:
            ``boxes`` (B, Q, 4) as x1, y1, x2, y2 in tile pixels, and ``scores`` (B, Q, C), probabilities in [0, 1]; all finite.
        """


class WindowReader(Protocol):
    """What detecting needs of a raster."""

    def read(self, window: Window) -> Pixels:
        """RGB pixels (height, width, 3) of ``window``."""

    def valid_share(self, window: Window) -> float:
        """Share in [0, 1] of the pixels of ``window`` that hold data."""


def detect_windows(
    detector: TileDetector,
    reader: WindowReader,
    windows: Sequence[Window],
    *,
    batch_size: int,
    score_threshold: float,
    minimum_valid_share: float,
    progress: Progress,
) -> list[tuple[Window, Boxes]]:
    """Detect in every window that holds enough data.

    At most ``batch_size`` windows are in memory at once, besides the boxes found.

    Args:
        detector: the model.
        reader: the scene.
        windows: none larger than the detector's tile; a smaller one is padded with black at its right and bottom.
        batch_size: windows a call of the detector.
        score_threshold: a query is kept when its most probable class reaches this.
        minimum_valid_share: a window with less data is left out.
        progress: told after each batch, in windows.

    Returns:
        The windows looked at, in their order, each with its scored boxes in the **scene** frame.
    """
    found: list[tuple[Window, Boxes]] = []
    progress(0, len(windows), "detecting")
    for start in range(0, len(windows), batch_size):
        candidates = windows[start : start + batch_size]
        batch = [window for window in candidates if reader.valid_share(window) >= minimum_valid_share]
        if batch:
            images = np.stack([_padded(reader.read(window), detector.tile) for window in batch])
            boxes, scores = detector.run(images)
            found.extend((window, _kept(boxes[k], scores[k], window, score_threshold)) for k, window in enumerate(batch))
        progress(start + len(candidates), len(windows), "detecting")
    return found


def _padded(pixels: Pixels, tile: int) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) == (tile, tile):
        return pixels
    return np.pad(pixels, ((0, tile - height), (0, tile - width), (0, 0)))


def _kept(boxes_tile: Floats32, scores: Floats32, window: Window, score_threshold: float) -> Boxes:
    """The confident queries of one window, clipped to it and moved into the scene frame."""
    labels = scores.argmax(1).astype(np.int64)
    best = scores[np.arange(len(labels)), labels].astype(np.float64)
    sides = np.array([window.width, window.height] * 2, dtype=np.float64)
    clipped = np.clip(boxes_tile.astype(np.float64), 0, sides)
    kept = (best >= score_threshold) & (clipped[:, 2:] > clipped[:, :2]).all(1)
    return Boxes(clipped[kept], labels[kept], best[kept]).shifted(window.x, window.y)
