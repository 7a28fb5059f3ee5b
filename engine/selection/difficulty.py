"""Which classes the detector finds hard, on the tiles whose objects are known (PPAL, arXiv 2211.11612, section 3.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.boxes import box_iou
from engine.config import StageConfig
from engine.selection.detections import Detections, KnownObjects

__all__ = ["DifficultyConfig", "class_difficulty", "difficulty_weights"]

Floats = NDArray[np.float64]
SCORE_POWER, IOU_POWER = 0.6, 0.4


class DifficultyConfig(StageConfig):
    """How much more a doubt counts in a class that the detector finds hard."""

    alpha: float = Field(default=0.3, gt=0)
    """α: how quickly the weight rises with the difficulty; the smaller, the more alike all but the easiest classes are."""
    beta: float = Field(default=0.2, ge=0)
    """β: the hardest class weighs 1 + β, the easiest 1."""
    prior_objects: float = Field(default=5.0, ge=0)
    """A class starts at the mean difficulty of all, with the weight of this many objects."""


def class_difficulty(objects: Detections, known: KnownObjects, config: DifficultyConfig) -> Floats:
    """1 − q_c in [0, 1] of each class (C,), where q_c is the mean of p^0.6 · IoU^0.4 over the known objects of the class.

    p and IoU are those of the detection of that class on its tile for which the product is largest; an object that nobody detected
    has 0. The paper averages over training steps; here it is the detector that ranks which is asked.

    Args:
        objects: detections that stand for an object each, ordered by tile.
        known: what people drew; the labels lie in [0, C).
        config: the prior.
    """
    classes = objects.classes
    known = known.take(np.lexsort((*known.xyxy.T, known.labels, known.tile_index)))
    quality = np.zeros(len(known))
    tiles, starts, counts = np.unique(known.tile_index, return_index=True, return_counts=True)
    for tile, start, count in zip(tiles, starts, counts, strict=True):
        rows = slice(start, start + count)
        first, end = np.searchsorted(objects.tile_index, [tile, tile + 1])
        if end > first:
            overlap = box_iou(known.xyxy[rows], objects.xyxy[first:end])
            scores = objects.class_scores[first:end][:, known.labels[rows]].T
            quality[rows] = (scores**SCORE_POWER * overlap**IOU_POWER).max(axis=1)
    number = np.bincount(known.labels, minlength=classes).astype(np.float64)
    total = np.bincount(known.labels, weights=quality, minlength=classes)
    mean = quality.mean() if len(quality) else 0.0
    difficulty: Floats = 1 - (total + config.prior_objects * mean) / np.maximum(number + config.prior_objects, 1e-12)
    return difficulty


def difficulty_weights(difficulty: Floats, config: DifficultyConfig) -> Floats:
    """w_c = 1 + α·β·ln((e^{1/α} − 1)·(1 − q_c) + 1) of each class (C,), from ``difficulty`` 1 − q_c in [0, 1] (equation 3)."""
    weights: Floats = 1 + config.alpha * config.beta * np.log1p(np.expm1(1 / config.alpha) * difficulty)
    return weights
