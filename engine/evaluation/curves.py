"""Precision and recall over the score threshold, and the threshold that balances them best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.matching import Matches

__all__ = ["RECALLS", "OperatingPoint", "PrecisionRecall", "at_threshold", "best_f1", "precision_recall", "sweep"]

RECALLS = np.linspace(0, 1, 101)
"""Where a curve is sampled, COCO's 101 recalls."""
THRESHOLDS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class OperatingPoint:
    """What a score threshold gives: predictions with that score or a higher one count.

    ``precision`` is None where nothing counts, ``recall`` and ``f1`` where there is no true box.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    found: int
    missed: int
    false: int


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision (101,) at the recalls 0, 0.01 … 1, interpolated from the right as COCO does; None where there is no true box."""

    precision: tuple[float, ...] | None
    boxes: int

    @property
    def average_precision(self) -> float | None:
        """Area under the curve: AP at the IoU of the matches."""
        return None if self.precision is None else float(np.mean(self.precision))


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Predictions, the strongest first: ``scores`` (P,), ``hits`` (P + 1,) how many of the first so many are right; true ``boxes``."""

    scores: NDArray[np.float64]
    hits: NDArray[np.int64]
    boxes: int

    @classmethod
    def of(cls, matches: Matches, label: int | None) -> Self:
        mine = np.ones(len(matches.score), dtype=bool) if label is None else matches.label == label
        order = np.flatnonzero(mine)[np.argsort(-matches.score[mine], kind="stable")]
        boxes = matches.true_counts.sum() if label is None else matches.true_counts[:, label].sum()
        return cls(matches.score[order], np.append(0, np.cumsum(matches.right[order])), int(boxes))

    def at(self, threshold: float) -> OperatingPoint:
        counted = int(np.searchsorted(-self.scores, -threshold, side="right"))
        found = int(self.hits[counted])
        return OperatingPoint(
            threshold=float(threshold),
            precision=found / counted if counted else None,
            recall=found / self.boxes if self.boxes else None,
            f1=2 * found / (counted + self.boxes) if self.boxes else None,
            found=found,
            missed=self.boxes - found,
            false=counted - found,
        )


def precision_recall(matches: Matches, label: int | None = None) -> PrecisionRecall:
    """The curve of one class, or of all predictions together (each box counts the same there, so large classes weigh more)."""
    ranked = _Ranked.of(matches, label)
    if not ranked.boxes:
        return PrecisionRecall(None, 0)
    hits = ranked.hits[1:]
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(hits / ranked.boxes, RECALLS, side="left")
    return PrecisionRecall(tuple(np.append(envelope, 0.0)[first].tolist()), ranked.boxes)


def at_threshold(matches: Matches, threshold: float, label: int | None = None) -> OperatingPoint:
    """What ``threshold`` gives on one class, or on all of them together."""
    return _Ranked.of(matches, label).at(threshold)


def best_f1(matches: Matches, label: int | None = None) -> OperatingPoint:
    """The threshold of the highest F1, the harmonic mean of precision and recall; of two alike the higher one, 1 where nothing is found."""
    ranked = _Ranked.of(matches, label)
    if not ranked.boxes or not ranked.hits[-1]:
        return ranked.at(1.0)
    f1 = 2 * ranked.hits[1:] / (np.arange(1, len(ranked.scores) + 1) + ranked.boxes)
    ends_a_tie = np.append(ranked.scores[1:] < ranked.scores[:-1], True)
    return ranked.at(float(ranked.scores[np.argmax(np.where(ends_a_tie, f1, -1))]))


def sweep(matches: Matches, label: int | None = None) -> list[OperatingPoint]:
    """What the thresholds 0, 0.01 … 1 give."""
    ranked = _Ranked.of(matches, label)
    return [ranked.at(threshold) for threshold in THRESHOLDS.tolist()]
