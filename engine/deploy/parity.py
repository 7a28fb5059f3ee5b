"""How far two runtimes are apart on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPARED_AT_LEAST", "Parity", "measure_parity"]

MINIMUM_SCORE = 0.05
COMPARED_AT_LEAST = 10


@dataclass(frozen=True)
class Parity:
    """Largest differences between torch and ONNX Runtime over matched detections."""

    detections: int
    """compared, counted from either side"""
    unmatched: int
    """without a counterpart of the same class"""
    score: float
    box: float
    """as a share of the tile's side"""
    images: int

    @property
    def worst(self) -> float:
        """The number that must stay within the tolerance; infinite when a detection has no counterpart."""
        return float("inf") if self.unmatched else max(self.score, self.box)


def measure_parity(
    ours: tuple[NDArray[np.float32], NDArray[np.float32]], theirs: tuple[NDArray[np.float32], NDArray[np.float32]], side: int
) -> Parity:
    """Compare two answers to the same images.

    Every (query, class) with a score of at least 0.05 on one side, and an image's ten best whatever their scores, is matched to the
    nearest box of the same class on the other side, whatever its place in the order; both directions are looked at.

    Args:
        ours: boxes (B, N, 4) in pixels and scores (B, N, C).
        theirs: the same from the other runtime.
        side: of the images, in pixels.
    """
    detections = unmatched = 0
    worst_score = worst_box = 0.0
    for (boxes, scores), (other_boxes, other_scores) in ((ours, theirs), (theirs, ours)):
        for image in range(len(boxes)):
            floor = min(MINIMUM_SCORE, float(np.sort(scores[image], axis=None)[-COMPARED_AT_LEAST:][0]))
            for query, label in zip(*np.nonzero(scores[image] >= floor), strict=True):
                detections += 1
                distance = np.abs(other_boxes[image] - boxes[image, query]).max(-1) / side
                gap = np.abs(other_scores[image, :, label] - scores[image, query, label])
                nearest = int(np.maximum(distance, gap).argmin())
                if max(distance[nearest], gap[nearest]) > 0.1:
                    unmatched += 1
                    continue
                worst_box = max(worst_box, float(distance[nearest]))
                worst_score = max(worst_score, float(gap[nearest]))
    return Parity(detections, unmatched, worst_score, worst_box, len(ours[0]))
