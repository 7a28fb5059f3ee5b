"""Which class is taken for which, and what for background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes
from engine.evaluation.matching import MISSED, Matches, match_boxes

__all__ = ["confusion_matrix"]


def confusion_matrix(
    pairs: Sequence[tuple[Boxes, Boxes]], matches: Matches, *, threshold: float, iou_threshold: float = 0.5
) -> NDArray[np.int64]:
    """Count what each true box was taken for.

    Right predictions stay with the box that they found; each further one, the strongest first, takes the box that is still free and that
    it overlaps most. So the diagonal is what :func:`engine.evaluation.curves.at_threshold` counts as found.

    Args:
        pairs: the (true, predicted) boxes of each tile.
        matches: of ``pairs`` at ``iou_threshold``.
        threshold: predictions with that score or a higher one count.
        iou_threshold: in (0, 1].

    Returns:
        (C + 1, C + 1): true classes in rows, predicted ones in columns, background last: the last column counts missed boxes, the last
        row false ones.
    """
    classes = matches.true_counts.shape[1]
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    counted = np.flatnonzero(matches.score >= threshold)
    ends = np.searchsorted(matches.tile[counted], np.arange(len(pairs) + 1))
    for tile, (true, predicted) in enumerate(pairs):
        mine = counted[ends[tile] : ends[tile + 1]]
        right = mine[matches.true_box[mine] != MISSED]
        np.add.at(matrix, (matches.label[right], matches.label[right]), 1)
        left = np.setdiff1d(np.arange(len(true)), matches.true_box[right])
        other = mine[matches.true_box[mine] == MISSED]
        other = other[np.argsort(-matches.score[other], kind="stable")]
        found = match_boxes(true.xyxy[left], predicted.xyxy[matches.source[other]], iou_threshold)
        actual = np.append(true.labels[left], classes)
        np.add.at(matrix, (actual[found], matches.label[other]), 1)
        missed = np.delete(actual[:-1], found[found != MISSED])
        np.add.at(matrix, (missed, np.full(len(missed), classes)), 1)
    return matrix
