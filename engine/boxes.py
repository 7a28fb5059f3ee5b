"""Axis-aligned boxes with labels and scores: the value object that every room speaks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput

__all__ = ["Boxes", "box_area", "box_iou", "visible_share"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def box_area(xyxy: Floats) -> Floats:
    """Areas (N,) of boxes (N, 4), in squared pixels; an inverted box has area 0."""
    return np.clip(xyxy[:, 2] - xyxy[:, 0], 0, None) * np.clip(xyxy[:, 3] - xyxy[:, 1], 0, None)


def _intersection(a: Floats, b: Floats) -> Floats:
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union (N, M) in [0, 1] of boxes (N, 4) and (M, 4); 0 where both are empty."""
    intersection = _intersection(a, b)
    union = box_area(a)[:, None] + box_area(b)[None] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def visible_share(xyxy: Floats, window: tuple[float, float, float, float]) -> Floats:
    """Share (N,) in [0, 1] of each box's area that lies in ``window`` (x1, y1, x2, y2)."""
    area = box_area(xyxy)
    shown = _intersection(xyxy, np.asarray([window], dtype=np.float64))[:, 0]
    return np.divide(shown, area, out=np.zeros_like(area), where=area > 0)


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes (x1, y1, x2, y2) in pixels, with a label each and, for predictions, a score each in [0, 1].

    The frame is the caller's: names end in ``_tile`` or ``_scene`` where both occur.

    Raises:
        BadInput: shapes that do not agree, coordinates that are not finite, an inverted or empty box, a score outside [0, 1].
    """

    xyxy: Floats
    labels: Integers
    scores: Floats | None = field(default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        if self.scores is not None:
            object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64).reshape(-1))
        if len(self.labels) != len(self.xyxy):
            raise BadInput(f"{len(self.labels)} labels for {len(self.xyxy)} boxes", expected="one label a box")
        if not np.isfinite(self.xyxy).all():
            raise BadInput(f"box {int(np.flatnonzero(~np.isfinite(self.xyxy).all(1))[0])} has a coordinate that is not a finite number")
        flat = ~((self.xyxy[:, 2:] > self.xyxy[:, :2]).all(1))
        if flat.any():
            first = int(np.flatnonzero(flat)[0])
            raise BadInput(f"box {first} is empty or inverted: {self.xyxy[first].tolist()}", expected="x1 < x2 and y1 < y2")
        if self.scores is not None:
            if len(self.scores) != len(self.xyxy):
                raise BadInput(f"{len(self.scores)} scores for {len(self.xyxy)} boxes", expected="one score a box")
            if len(self.scores) and not (np.isfinite(self.scores).all() and self.scores.min() >= 0 and self.scores.max() <= 1):
                raise BadInput("a score outside [0, 1]", expected="probabilities")

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.xyxy)

    @classmethod
    def empty(cls, *, scored: bool = False) -> Boxes:
        """No boxes; ``scored`` makes it an empty set of predictions."""
        return cls(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0) if scored else None)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Boxes:
        """The boxes at ``index`` (integers, or a mask of length N)."""
        return Boxes(self.xyxy[index], self.labels[index], None if self.scores is None else self.scores[index])

    def shifted(self, dx: float, dy: float) -> Boxes:
        """The boxes moved by (dx, dy) pixels."""
        if not len(self):
            return self
        return Boxes(self.xyxy + np.array([dx, dy, dx, dy]), self.labels, self.scores)

    def visible_in(self, window: tuple[float, float, float, float], minimum_share: float) -> Boxes:
        """The boxes of which at least ``minimum_share`` lies in ``window``, clipped to it, still in the same frame."""
        if not len(self):
            return self
        kept = self.take(visible_share(self.xyxy, window) >= minimum_share)
        x1, y1, x2, y2 = window
        clipped = np.clip(kept.xyxy, [x1, y1, x1, y1], [x2, y2, x2, y2])
        solid = (clipped[:, 2:] > clipped[:, :2]).all(1)
        return Boxes(clipped[solid], kept.labels[solid], None if kept.scores is None else kept.scores[solid])
