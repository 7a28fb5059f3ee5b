"""Several annotators on one tile: how far they agree, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from engine.boxes import Boxes, box_iou

__all__ = ["pairwise_f1", "together"]


def pairwise_f1(drawn: Sequence[Boxes], iou_threshold: float) -> float | None:
    """Mean over all pairs of annotators of the F1 of the one's boxes held against the other's; None for fewer than two annotators.

    Boxes of one class are matched one to one so that the sum of IoU is largest; below ``iou_threshold`` there is no match. Two annotators
    who both drew nothing agree fully.

    Args:
        drawn: a set of boxes an annotator, in one frame.
        iou_threshold: in (0, 1].
    """
    pairs = [_f1(one, other, iou_threshold) for one, other in combinations(drawn, 2)]
    return float(np.mean(pairs)) if pairs else None


def _f1(one: Boxes, other: Boxes, iou_threshold: float) -> float:
    if not len(one) + len(other):
        return 1.0
    overlap = _overlap(one, other)
    overlap[overlap < iou_threshold] = 0.0
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return 2 * int((overlap[rows, columns] > 0).sum()) / (len(one) + len(other))


def _overlap(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """IoU (N, M) of boxes of one class, 0 between classes."""
    same: NDArray[np.bool_] = one.labels[:, None] == other.labels[None]
    return box_iou(one.xyxy, other.xyxy) * same


def together(drawn: Sequence[Boxes], iou_threshold: float, *, majority: bool) -> Boxes:
    """What several annotators drew, as one set of boxes: of each object the average of its boxes.

    Boxes are one object where they are of one class and every two of them overlap by ``iou_threshold``; the best overlap joins first, and
    an annotator has one box of an object at most.

    Args:
        drawn: a set of boxes an annotator, in one frame.
        iou_threshold: in (0, 1].
        majority: keep only objects that more than half of the annotators drew.
    """
    if len(drawn) == 1:
        return drawn[0]
    who = np.repeat(np.arange(len(drawn)), [len(boxes) for boxes in drawn])
    everything = Boxes(
        np.concatenate([boxes.xyxy for boxes in drawn]) if drawn else np.zeros((0, 4)),
        np.concatenate([boxes.labels for boxes in drawn]) if drawn else np.zeros(0, dtype=np.int64),
    )
    objects = _objects(everything, who, iou_threshold)
    kept = [members for members in objects if not majority or 2 * len(members) > len(drawn)]
    return Boxes(
        np.array([everything.xyxy[members].mean(axis=0) for members in kept]).reshape(-1, 4),
        np.array([everything.labels[members[0]] for members in kept], dtype=np.int64),
    )


def _objects(boxes: Boxes, who: NDArray[np.int64], iou_threshold: float) -> list[list[int]]:
    """Indices of the boxes of each object, in the order of their first boxes."""
    overlap = _overlap(boxes, boxes)
    group = {index: [index] for index in range(len(boxes))}
    first, second = np.nonzero(np.triu(overlap >= iou_threshold, k=1))
    order = np.argsort(-overlap[first, second], kind="stable")
    for one, other in zip(first[order].tolist(), second[order].tolist(), strict=True):
        left, right = group[one], group[other]
        if left is right or set(who[left].tolist()) & set(who[right].tolist()):
            continue
        if overlap[np.ix_(left, right)].min() >= iou_threshold:
            left += right
            for index in right:
                group[index] = left
    found = {id(members): sorted(members) for members in group.values()}
    return sorted(found.values())
