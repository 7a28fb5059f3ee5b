"""Which prediction found which true box, at one IoU: what curves, confusion, calibration and worst tiles are counted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes, box_iou
from engine.errors import UsageError

__all__ = ["Matches", "match_boxes", "match_tiles"]

MISSED = -1

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matches:
    """P predictions on N tiles against T true boxes of C classes, as COCO matches them at one IoU.

    Of the predictions: ``tile`` (P,) the row of the tile, ``label`` (P,), ``score`` (P,), ``source`` (P,) the row among the tile's
    predictions, and ``true_box`` (P,) the row among the tile's true boxes, −1 where it found none. ``true_counts`` (N, C).
    """

    tile: Integers
    label: Integers
    score: Floats
    source: Integers
    true_box: Integers
    true_counts: Integers

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions (P,) found a true box of their class."""
        found: NDArray[np.bool_] = self.true_box != MISSED
        return found


def match_boxes(true: Floats, predicted: Floats, iou_threshold: float) -> Integers:
    """The row of the true box that each prediction finds, −1 for none.

    Each prediction in turn takes the free true box that it overlaps most, and by at least ``iou_threshold``; of two alike the later one
    (the rule of COCO's evaluation).

    Args:
        true: (T, 4) xyxy.
        predicted: (P, 4) xyxy in the same frame, the strongest first.
        iou_threshold: in (0, 1].

    Returns:
        (P,) rows of ``true``.
    """
    found = np.full(len(predicted), MISSED, dtype=np.int64)
    if not len(true) or not len(predicted):
        return found
    iou = box_iou(predicted, true)
    iou[iou < min(iou_threshold, 1 - 1e-10)] = 0
    for row in np.flatnonzero(iou.any(1)):
        best = len(true) - 1 - int(np.argmax(iou[row, ::-1]))
        if iou[row, best] > 0:
            found[row] = best
            iou[:, best] = 0
    return found


def match_tiles(pairs: Sequence[tuple[Boxes, Boxes]], classes: int, *, iou_threshold: float = 0.5, max_detections: int = 100) -> Matches:
    """Match the (true, predicted) boxes of each tile, class by class, the strongest prediction first.

    Args:
        pairs: one a tile; the predicted boxes carry scores, and all labels lie in [0, ``classes``).
        classes: how many there are.
        iou_threshold: in (0, 1].
        max_detections: the best so many predictions of each class on a tile count, at least 1.

    Raises:
        UsageError: a threshold or limit out of range.
    """
    if not 0 < iou_threshold <= 1 or max_detections < 1:
        raise UsageError(f"iou_threshold = {iou_threshold}, max_detections = {max_detections}", expected="in (0, 1], and at least 1")
    parts: list[tuple[Integers, Integers, Floats, Integers, Integers]] = []
    counts = np.zeros((len(pairs), classes), dtype=np.int64)
    for tile, (true, predicted) in enumerate(pairs):
        counts[tile] = np.bincount(true.labels, minlength=classes)
        scores = np.zeros(0) if predicted.scores is None else predicted.scores
        for label in np.unique(predicted.labels):
            rows = np.flatnonzero(predicted.labels == label)
            rows = rows[np.argsort(-scores[rows], kind="stable")][:max_detections]
            known = np.flatnonzero(true.labels == label)
            found = match_boxes(true.xyxy[known], predicted.xyxy[rows], iou_threshold)
            parts.append((np.full(len(rows), tile), np.full(len(rows), label), scores[rows], rows, np.append(known, MISSED)[found]))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Matches(none, none, np.zeros(0), none, none, counts)
    tiles, labels, strengths, sources, boxes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Matches(tiles, labels, strengths, sources, boxes, counts)
