"""Known labels that stand in for an annotator, and what the annotator's work would have cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from engine.boxes import Boxes, box_iou
from engine.selection.cost import Prices
from engine.selection.detections import suppress_duplicates

__all__ = ["EDIT_IOU", "VERIFY_IOU", "OracleVisit", "charge", "shown_boxes"]

VERIFY_IOU = 0.8
"""A shown box that overlaps the true one at least this much is accepted as it is."""
EDIT_IOU = 0.5
"""A shown box that overlaps the true one at least this much is dragged into place; below it is deleted and the true one drawn."""
DUPLICATE_IOU = 0.7


@dataclass(frozen=True)
class OracleVisit:
    """One visit to a tile: its seconds, and how many boxes were verified, edited, drawn and deleted."""

    seconds: float
    verified: int
    edited: int
    drawn: int
    deleted: int


def shown_boxes(predicted: Boxes, accepted: Boxes, shown_score: float) -> Boxes:
    """What an annotator finds on a tile when opening it: the boxes accepted earlier (score 1), then the predictions worth showing.

    Args:
        predicted: scored boxes; those below ``shown_score`` stay hidden, and of several that overlap by more than 0.7 the best is shown.
        accepted: boxes paid for earlier, seen again through an overlapping tile; a prediction of one of them (IoU ≥ 0.5) is not shown.
        shown_score: in [0, 1].
    """
    scores = np.zeros(len(predicted)) if predicted.scores is None else predicted.scores
    strong = np.flatnonzero(scores >= shown_score)
    strong = strong[np.argsort(-scores[strong], kind="stable")]
    strong = strong[suppress_duplicates(predicted.xyxy[strong], DUPLICATE_IOU)]
    if not len(accepted):
        return Boxes(predicted.xyxy[strong], predicted.labels[strong], scores[strong])
    fresh = strong[box_iou(predicted.xyxy[strong], accepted.xyxy).max(axis=1, initial=0.0) < EDIT_IOU]
    return Boxes(
        np.concatenate([accepted.xyxy, predicted.xyxy[fresh]]),
        np.concatenate([accepted.labels, predicted.labels[fresh]]),
        np.concatenate([np.ones(len(accepted)), scores[fresh]]),
    )


def charge(true: Boxes, shown: Boxes, prices: Prices) -> OracleVisit:
    """What an annotator who knows ``true`` pays for correcting ``shown``.

    Shown and true boxes of one class are matched one to one so that the sum of IoU is largest; below :data:`EDIT_IOU` there is no match.
    What is left of both is matched in the same way whatever the class: a box in its place with a wrong class is relabelled, which is an
    edit, as a person's acts are counted. IoU ≥ 0.8 and the right class costs verifying, any other match editing, a true box without a
    match drawing, a shown box without a match deleting, and the tile itself opening and, where there is a price for it, its density.
    """
    overlap = box_iou(true.xyxy, shown.xyxy)
    overlap[overlap < EDIT_IOU] = 0
    rows, columns = _matched(np.where(true.labels[:, None] == shown.labels[None], overlap, 0))
    relabelled = len(_matched(np.delete(np.delete(overlap, rows, axis=0), columns, axis=1))[0])
    verified = int((overlap[rows, columns] >= VERIFY_IOU).sum())
    kept = len(rows) + relabelled
    edited, drawn, deleted = kept - verified, len(true) - kept, len(shown) - kept
    return OracleVisit(float(prices.seconds(verified, edited, drawn, deleted)), verified, edited, drawn, deleted)


def _matched(overlap: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the assignment of the largest overlap in all, without pairs that do not overlap."""
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    touching = overlap[rows, columns] > 0
    return rows[touching], columns[touching]
