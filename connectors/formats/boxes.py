"""What every reader of labels does with a box that is not one: clip it, or leave it out and say so."""

from __future__ import annotations

import math

import numpy as np

from engine.boxes import Boxes
from engine.records import ImageLabels, UnusableBox

__all__ = ["BoxCollector"]

MINIMUM_SIDE = 1.0


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
        self._xyxy: list[tuple[float, float, float, float]] = []
        self._labels: list[int] = []

    def add(self, xyxy: tuple[float, float, float, float], label: int) -> None:
        """Take a box in, clipped to the image.

        It is left out, with the reason, where a coordinate is not finite, where it has no area, and where clipping leaves less than a
        pixel in width or height. A box wholly inside the image is taken as it is, however small.
        """
        x1, y1, x2, y2 = xyxy
        if not all(math.isfinite(side) for side in xyxy):
            self._reject(xyxy, "a coordinate is not a finite number")
        elif x2 <= x1 or y2 <= y1:
            self._reject(xyxy, "it has no area")
        else:
            right, bottom = self.width or math.inf, self.height or math.inf
            clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, right), min(y2, bottom))
            if clipped != xyxy and min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < MINIMUM_SIDE:
                self._reject(xyxy, f"it lies outside the image of {self.width} x {self.height} pixels")
            else:
                self._xyxy.append(clipped)
                self._labels.append(label)

    def image_labels(self) -> ImageLabels:
        """The image with its usable boxes in the order of the file."""
        boxes = Boxes(np.asarray(self._xyxy, dtype=np.float64), np.asarray(self._labels, dtype=np.int64))
        return ImageLabels(self.image, self.width, self.height, boxes)

    def _reject(self, xyxy: tuple[float, float, float, float], reason: str) -> None:
        self.unusable.append(UnusableBox(self.image, str([round(side, 2) if math.isfinite(side) else side for side in xyxy]), reason))
