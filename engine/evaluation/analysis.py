"""Everything beyond the averages: curves, confusion, calibration, worst tiles, all of them JSON-ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.boxes import Boxes
from engine.evaluation.calibration import Reliability, reliability
from engine.evaluation.confusion import confusion_matrix
from engine.evaluation.curves import OperatingPoint, PrecisionRecall, at_threshold, best_f1, precision_recall, sweep
from engine.evaluation.matching import match_tiles
from engine.evaluation.worst import TileErrors, tile_errors, worst_tiles
from engine.label_set import LabelSet

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True)
class Analysis:
    """What a detector does right and wrong at one IoU.

    ``best`` is the point of the highest F1 on these very tiles, ``point`` the one that confusion and worst tiles are counted at;
    ``confusion`` (C + 1, C + 1) has true classes in rows, predicted ones in columns, background last.
    """

    iou_threshold: float
    curves: dict[str, PrecisionRecall]
    curve_of_all: PrecisionRecall
    thresholds: tuple[OperatingPoint, ...]
    best: OperatingPoint
    point: OperatingPoint
    best_per_class: dict[str, OperatingPoint]
    confusion: tuple[tuple[int, ...], ...]
    reliability: Reliability
    worst: tuple[TileErrors, ...]


def analyse(
    pairs: Sequence[tuple[Boxes, Boxes]],
    label_set: LabelSet,
    tile_ids: Sequence[int],
    *,
    threshold: float | None = None,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
    worst: int = 12,
) -> Analysis:
    """Look into the (true, predicted) boxes of each tile.

    Args:
        pairs: as :func:`engine.evaluation.detection.evaluate_detections` takes them, and checks them.
        label_set: what the labels stand for.
        tile_ids: one a pair.
        threshold: the score from which a prediction counts as a box in the confusion and the worst tiles; None for that of the best F1.
        iou_threshold: from which overlap on a prediction finds a true box.
        max_detections: the best so many predictions of each class on a tile count.
        worst: at most so many tiles.
    """
    matches = match_tiles(pairs, len(label_set), iou_threshold=iou_threshold, max_detections=max_detections)
    best = best_f1(matches)
    chosen = best.threshold if threshold is None else threshold
    return Analysis(
        iou_threshold=iou_threshold,
        curves={name: precision_recall(matches, label) for label, name in enumerate(label_set.names)},
        curve_of_all=precision_recall(matches),
        thresholds=tuple(sweep(matches)),
        best=best,
        point=at_threshold(matches, chosen),
        best_per_class={name: best_f1(matches, label) for label, name in enumerate(label_set.names)},
        confusion=tuple(tuple(row) for row in confusion_matrix(pairs, matches, threshold=chosen, iou_threshold=iou_threshold).tolist()),
        reliability=reliability(matches),
        worst=tuple(worst_tiles(tile_errors(matches, tile_ids, threshold=chosen), worst)),
    )
