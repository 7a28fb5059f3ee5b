"""How unsure a detection transformer is about a tile, counted over its objects and not over its queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.boxes import box_iou
from engine.config import StageConfig
from engine.errors import BadInput

__all__ = ["Detections", "UncertaintyConfig", "keep_objects", "object_uncertainty", "suppress_duplicates", "tile_uncertainty"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class UncertaintyConfig(StageConfig):
    """Which queries count as objects, and how their doubts add up."""

    minimum_score: float = Field(default=0.1, ge=0, le=1)
    """A query below this score is background and says nothing about the tile."""
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    """Of queries that overlap by more than this, whatever their class, only the best one is an object."""
    ambiguity_weight: float = Field(default=0.5, ge=0)
    """λ: what doubt between two classes weighs against doubt whether there is an object at all."""
    strongest_objects: int = Field(default=10, ge=1)
    """m: a tile's uncertainty is the sum over its m most uncertain objects."""


@dataclass(frozen=True, eq=False)
class Detections:
    """P raw detections: ``tile_index`` (P,) the row of the tile, ``xyxy`` (P, 4) tile pixels, ``class_scores`` (P, C ≥ 1) in [0, 1].

    Raises:
        BadInput: shapes that do not agree, or numbers out of range.
    """

    tile_index: Integers
    xyxy: Floats
    class_scores: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile_index", np.asarray(self.tile_index, dtype=np.int64))
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float64))
        object.__setattr__(self, "class_scores", np.asarray(self.class_scores, dtype=np.float64))
        found = (self.tile_index.shape, self.xyxy.shape, self.class_scores.shape)
        count = len(self.tile_index)
        if found[0] != (count,) or found[1] != (count, 4) or self.class_scores.ndim != 2 or found[2][0] != count or found[2][1] < 1:
            raise BadInput(f"detections with shapes {found}", expected="(P,), (P, 4) and (P, C)")
        if not np.isfinite(self.xyxy).all() or not np.isfinite(self.class_scores).all():
            raise BadInput("a detection with a box or a score that is not a finite number")
        if count and self.tile_index.min() < 0:
            raise BadInput(f"a detection on row {int(self.tile_index.min())}", expected="rows from 0")
        if count and (self.class_scores.min() < 0 or self.class_scores.max() > 1 + 1e-6):
            raise BadInput("a detection with a score outside [0, 1]", expected="probabilities")

    @property
    def scores(self) -> Floats:
        """The best class score (P,) of each detection."""
        best: Floats = self.class_scores.max(axis=1)
        return best

    def take(self, index: Integers | NDArray[np.bool_]) -> Detections:
        """The detections at ``index``."""
        return Detections(self.tile_index[index], self.xyxy[index], self.class_scores[index])


def suppress_duplicates(xyxy: Floats, iou_threshold: float) -> Integers:
    """Indices of the boxes (N, 4), given best first, that overlap no better one by more than ``iou_threshold``, whatever their class."""
    overlap = box_iou(xyxy, xyxy) > iou_threshold
    kept = np.ones(len(xyxy), dtype=bool)
    for row in range(len(xyxy)):
        if kept[row]:
            kept[row + 1 :] &= ~overlap[row, row + 1 :]
    return np.flatnonzero(kept)


def keep_objects(detections: Detections, config: UncertaintyConfig) -> Detections:
    """The detections that stand for an object each, by tile and then best first, in an order that does not depend on the given one.

    One query per object is calibrated and its neighbours are trained to be suppressed, so the duplicates and the background queries
    must not be averaged in (arXiv 2412.01782).
    """
    strong = detections.take(detections.scores >= config.minimum_score)
    strong = strong.take(np.lexsort((*strong.class_scores.T, *strong.xyxy.T, -strong.scores, strong.tile_index)))
    _, first, count = np.unique(strong.tile_index, return_index=True, return_counts=True)
    kept = [
        start + suppress_duplicates(strong.xyxy[start : start + length], config.duplicate_iou)
        for start, length in zip(first, count, strict=True)
    ]
    return strong.take(np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64))


def object_uncertainty(class_scores: Floats, ambiguity_weight: float) -> Floats:
    """Doubt u = H(s₁) + λ·(1 − margin) in each object (P,), from its class scores (P, C).

    H is the binary entropy of the best score s₁ in bits; margin = 1 − s₂/s₁, relative to s₁ so that a weak object is not called
    ambiguous for being weak. With one class there is nothing to confuse and the margin is 1.
    """
    ordered = np.sort(class_scores, axis=1)[:, ::-1]
    best = np.clip(ordered[:, 0], 0, 1)
    inner = np.clip(best, 1e-12, 1 - 1e-12)
    entropy: Floats = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner))
    if class_scores.shape[1] == 1:
        return entropy
    ambiguity = np.divide(ordered[:, 1], ordered[:, 0], out=np.zeros_like(best), where=ordered[:, 0] > 0)
    doubt: Floats = entropy + ambiguity_weight * ambiguity
    return doubt


def tile_uncertainty(objects: Detections, tiles: int, config: UncertaintyConfig) -> Floats:
    """U (tiles,): the sum of the m largest object uncertainties on each tile; ``objects`` come from :func:`keep_objects`."""
    doubt = object_uncertainty(objects.class_scores, config.ambiguity_weight)
    order = np.lexsort((-doubt, objects.tile_index))
    tile = objects.tile_index[order]
    place = np.arange(len(tile)) - np.searchsorted(tile, tile)
    strongest = place < config.strongest_objects
    return np.bincount(tile[strongest], weights=doubt[order][strongest], minlength=tiles).astype(np.float64)
