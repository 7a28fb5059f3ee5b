"""What every reader of labels does with a box that is not one: clip it, or leave it out and say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine.boxes import Boxes
from engine.records import ImageLabels, UnusableBox

__all__ = ["XYXY", "BoxCollector", "hull"]

XYXY = tuple[float, float, float, float]

MINIMUM_SIDE = 1.0
OVERHANG = 0.01
"""Pixels that rounding may push the edge of a box out of its image."""


class BoxCollector:
    """Gathers the boxes of one image.

    Args:
        image: its name as the label file writes it.
        width: pixels; 0 where unknown, nothing is clipped on that side then but at 0.
        height: likewise.
    """

    def __init__(self, image: str, width: int, height: int) -> None:
        self.image, self.width, self.height = image, width, height
        self.unusable: list[UnusableBox] = []
        self._xyxy: list[XYXY] = []
        self._labels: list[int] = []

    def add(self, xyxy: XYXY, label: int, *, where: str = "") -> None:
        """Take a box in, clipped to the image.

        It is left out, with the reason, where a coordinate is not finite, where it has no area, and where clipping leaves less than a
        pixel in width or height. A box wholly inside the image, but for what rounding does, is taken however small. ``where`` names the
        box's place in its file, for the reason.
        """
        x1, y1, x2, y2 = xyxy
        if not all(math.isfinite(side) for side in xyxy):
            self.reject(xyxy, "a coordinate is not a finite number", where=where)
        elif x2 <= x1 or y2 <= y1:
            self.reject(xyxy, "it has no area", where=where)
        else:
            right, bottom = self.width or math.inf, self.height or math.inf
            clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, right), min(y2, bottom))
            cut = max(abs(before - after) for before, after in zip(xyxy, clipped, strict=True))
            side = min(clipped[2] - clipped[0], clipped[3] - clipped[1])
            if side <= 0 or (cut > OVERHANG and side < MINIMUM_SIDE):
                self.reject(xyxy, f"it lies outside the image of {self.width} x {self.height} pixels", where=where)
            else:
                self._xyxy.append(clipped)
                self._labels.append(label)

    def reject(self, xyxy: Sequence[float], reason: str, *, where: str = "") -> None:
        """Leave a box out, for ``reason``."""
        written = str([round(side, 2) if math.isfinite(side) else side for side in xyxy])
        self.unusable.append(UnusableBox(self.image, written, f"{where}: {reason}" if where else reason))

    def image_labels(self) -> ImageLabels:
        """The image with its usable boxes in the order of the file."""
        boxes = Boxes(np.asarray(self._xyxy, dtype=np.float64), np.asarray(self._labels, dtype=np.int64))
        return ImageLabels(self.image, self.width, self.height, boxes)


def hull(x: Sequence[float], y: Sequence[float]) -> XYXY:
    """The upright box around points; one that is not finite makes the whole box so."""
    if not all(math.isfinite(side) for side in (*x, *y)):
        return math.nan, math.nan, math.nan, math.nan
    return min(x), min(y), max(x), max(y)
