"""What a detector said of many tiles, and which of its answers stand for an object each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.boxes import Boxes, box_iou
from engine.config import StageConfig
from engine.errors import BadInput

__all__ = ["Detections", "KnownObjects", "ObjectConfig", "keep_objects", "suppress_duplicates"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
BLOCK = 2**16


class ObjectConfig(StageConfig):
    """Which queries count as objects."""

    minimum_score: float = Field(default=0.1, ge=0, le=1)
    """A query below this score is background and says nothing about the tile."""
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    """Of queries that overlap by more than this, whatever their class, only the best one is an object."""


@dataclass(frozen=True, eq=False)
class Detections:
    """P raw detections over C ≥ 1 classes.

    ``tile_index`` (P,) the row of the tile; ``xyxy`` (P, 4) tile pixels; ``class_scores`` (P, C) in [0, 1]; ``drift`` (P,) in [0, 1],
    1 − IoU between the boxes before and after the last decoder layer, None where nobody measured it; ``features`` (P, d) what each object
    looks like, None where nobody described it.

    Raises:
        BadInput: shapes that do not agree, or a row below 0.
    """

    tile_index: Integers
    xyxy: Floats
    class_scores: Floats
    drift: Floats | None = None
    features: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile_index", np.asarray(self.tile_index, dtype=np.int64))
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float64))
        object.__setattr__(self, "class_scores", np.asarray(self.class_scores, dtype=np.float64))
        found = (self.tile_index.shape, self.xyxy.shape, self.class_scores.shape)
        count = len(self.tile_index)
        if found[0] != (count,) or found[1] != (count, 4) or self.class_scores.ndim != 2 or found[2][0] != count or found[2][1] < 1:
            raise BadInput(f"detections with shapes {found}", expected="(P,), (P, 4) and (P, C)")
        for name in ("drift", "features"):
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise BadInput(f"{len(column)} {name} for {count} detections", expected="one a detection")
        if count and self.tile_index.min() < 0:
            raise BadInput(f"a detection on row {int(self.tile_index.min())}", expected="rows from 0")

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.tile_index)

    @property
    def classes(self) -> int:
        """C."""
        return self.class_scores.shape[1]

    @property
    def scores(self) -> Floats:
        """The best class score (P,) of each detection."""
        best: Floats = self.class_scores.max(axis=1)
        return best

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Mask (P,) of detections with a number that is not finite (of the box, the drift or the features), or a score outside [0, 1]."""
        within = (self.class_scores >= 0) & (self.class_scores <= 1 + 1e-6)
        right: NDArray[np.bool_] = np.asarray(np.isfinite(self.xyxy).all(axis=1) & within.all(axis=1))
        if self.drift is not None:
            right &= np.isfinite(self.drift)
        if self.features is not None:
            for start in range(0, len(self), BLOCK):
                part = slice(start, start + BLOCK)
                right[part] &= np.isfinite(self.features[part]).all(axis=1)
        return ~right

    def take(self, index: Integers | NDArray[np.bool_]) -> Detections:
        """The detections at ``index``."""
        drift = None if self.drift is None else self.drift[index]
        features = None if self.features is None else self.features[index]
        return Detections(self.tile_index[index], self.xyxy[index], self.class_scores[index], drift, features)


@dataclass(frozen=True, eq=False)
class KnownObjects:
    """M objects that people drew on tiles that they finished: ``tile_index`` (M,), ``xyxy`` (M, 4) tile pixels, ``labels`` (M,) from 0.

    Raises:
        BadInput: shapes that do not agree, or a label below 0.
    """

    tile_index: Integers
    xyxy: Floats
    labels: Integers

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile_index", np.asarray(self.tile_index, dtype=np.int64))
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        found = (self.tile_index.shape, self.xyxy.shape, self.labels.shape)
        if found != ((len(self.labels),), (len(self.labels), 4), (len(self.labels),)):
            raise BadInput(f"known objects with shapes {found}", expected="(M,), (M, 4) and (M,)")
        if len(self) and (self.labels.min() < 0 or self.tile_index.min() < 0):
            raise BadInput("a known object with a label or a row below 0", expected="numbers from 0")

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.labels)

    @classmethod
    def nothing(cls) -> KnownObjects:
        """No object."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, rows: Integers, boxes: Sequence[Boxes]) -> KnownObjects:
        """The boxes of the tiles at ``rows`` (n,), in tile pixels."""
        none = cls.nothing()
        return cls(
            np.repeat(np.asarray(rows, dtype=np.int64), [len(each) for each in boxes]),
            np.concatenate([none.xyxy, *(each.xyxy for each in boxes)]),
            np.concatenate([none.labels, *(each.labels for each in boxes)]),
        )

    def take(self, index: Integers | NDArray[np.bool_]) -> KnownObjects:
        """The objects at ``index``."""
        return KnownObjects(self.tile_index[index], self.xyxy[index], self.labels[index])


def suppress_duplicates(xyxy: Floats, iou_threshold: float) -> Integers:
    """Indices of the boxes (N, 4), given best first, that overlap no better one by more than ``iou_threshold``, whatever their class."""
    same = np.triu(box_iou(xyxy, xyxy) > iou_threshold, 1)
    kept = np.ones(len(xyxy), dtype=bool)
    for better in np.flatnonzero(same.any(axis=1)):
        if kept[better]:
            kept &= ~same[better]
    return np.flatnonzero(kept)


def _best_of_each(xyxy: Floats, iou_threshold: float) -> NDArray[np.bool_]:
    """Mask (T, n) of the boxes (T, n, 4) of T tiles, best first in each, that no better one of their tile makes a duplicate."""
    kept = np.ones(xyxy.shape[:2], dtype=bool)
    area = (xyxy[..., 2] - xyxy[..., 0]) * (xyxy[..., 3] - xyxy[..., 1])
    for row in range(xyxy.shape[1] - 1):
        rest = slice(row + 1, None)
        sides = np.minimum(xyxy[:, row, None, 2:], xyxy[:, rest, 2:]) - np.maximum(xyxy[:, row, None, :2], xyxy[:, rest, :2])
        common = np.clip(sides, 0, None).prod(axis=2)
        same = common > iou_threshold * (area[:, row, None] + area[:, rest] - common)
        kept[:, rest] &= ~(same & kept[:, row, None])
    return kept


def keep_objects(detections: Detections, config: ObjectConfig) -> Detections:
    """The detections that stand for an object each, by tile and then best first, in an order that does not depend on the given one.

    One query per object is calibrated and its neighbours are trained to be suppressed, so the duplicates and the background queries
    must not be averaged in (arXiv 2412.01782).
    """
    strong = np.flatnonzero(detections.scores >= config.minimum_score)
    found = detections.take(strong)
    ties = () if found.drift is None else (found.drift,)
    order = np.lexsort((*ties, *found.class_scores.T, *found.xyxy.T, -found.scores, found.tile_index))
    xyxy = found.xyxy[order]
    _, first, count = np.unique(found.tile_index[order], return_index=True, return_counts=True)
    kept = np.ones(len(order), dtype=bool)
    for number in np.unique(count):
        rows = first[count == number, None] + np.arange(number)
        kept[rows] = _best_of_each(xyxy[rows], config.duplicate_iou)
    return found.take(order[kept])
