"""COCO's detection metrics, from plain boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from engine.boxes import Boxes, box_area
from engine.errors import BadInput, NothingToDo
from engine.label_set import LabelSet

__all__ = ["DetectionMetrics", "evaluate_detections"]

ALL, SMALL, MEDIUM, LARGE = range(4)
RECALL_LIMITS = (100, 300)


@dataclass(frozen=True)
class DetectionMetrics:
    """COCO metrics in [0, 1]; None where no true box is of that size or class.

    ``ap`` is averaged over IoU 0.50:0.05:0.95 and over the classes that occur; sizes are COCO's (small < 32² ≤ medium < 96² ≤ large, in
    squared tile pixels); ``ar`` is the average recall at the best ``max_detections`` of each class on a tile, ``ar100`` and ``ar300`` at
    100 and 300. ``boxes`` are the true ones.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float
    ar100: float
    ar300: float
    ap_per_class: dict[str, float | None]
    ap50_per_class: dict[str, float | None]
    max_detections: int
    tiles: int
    boxes: int
    detections: int


def evaluate_detections(pairs: Sequence[tuple[Boxes, Boxes]], label_set: LabelSet, *, max_detections: int = 100) -> DetectionMetrics:
    """Compare the (true, predicted) boxes of each tile as COCO does.

    Args:
        pairs: one a tile; both in the same frame. The predicted boxes carry scores; any threshold on them only takes recall away.
        label_set: what the labels stand for.
        max_detections: the best so many predictions of each class on a tile count, at least 1. COCO says 100; dense imagery needs more.

    Raises:
        NothingToDo: no tile, or not one true box on them, so that no metric is defined.
        BadInput: a label outside ``label_set``, predictions without scores, ``max_detections`` below 1.
    """
    if max_detections < 1:
        raise BadInput(f"max_detections = {max_detections}", expected="1 or more")
    if not pairs:
        raise NothingToDo("no tile to evaluate on", remedy="Label some tiles of this split")
    for true, predicted in pairs:
        _require_labels(true, label_set, "a true box")
        _require_labels(predicted, label_set, "a prediction")
        if predicted.scores is None and len(predicted):
            raise BadInput("predictions without scores", expected="a score a box")
    boxes = sum(len(true) for true, _ in pairs)
    if not boxes:
        raise NothingToDo(f"not one true box on {len(pairs)} tiles, so no metric is defined", remedy="Label tiles that hold objects")
    limits = sorted({max_detections, *RECALL_LIMITS})
    precisions, recalls = _run(pairs, len(label_set), limits)
    precision = precisions[..., limits.index(max_detections)]
    per_class = [precision[:, :, label, ALL] for label in range(len(label_set))]
    average_recall = {limit: _known(recalls[..., ALL, limits.index(limit)]) for limit in limits}
    return DetectionMetrics(
        ap=_known(precision[..., ALL]),
        ap50=_known(precision[0, :, :, ALL]),
        ap75=_known(precision[5, :, :, ALL]),
        ap_small=_mean(precision[..., SMALL]),
        ap_medium=_mean(precision[..., MEDIUM]),
        ap_large=_mean(precision[..., LARGE]),
        ar=average_recall[max_detections],
        ar100=average_recall[100],
        ar300=average_recall[300],
        ap_per_class={name: _mean(one) for name, one in zip(label_set.names, per_class, strict=True)},
        ap50_per_class={name: _mean(one[0]) for name, one in zip(label_set.names, per_class, strict=True)},
        max_detections=max_detections,
        tiles=len(pairs),
        boxes=boxes,
        detections=sum(len(predicted) for _, predicted in pairs),
    )


def _require_labels(boxes: Boxes, label_set: LabelSet, what: str) -> None:
    strange = boxes.labels[(boxes.labels < 0) | (boxes.labels >= len(label_set))]
    if len(strange):
        raise BadInput(f"{what} with label {int(strange[0])}", expected=f"labels in [0, {len(label_set)})")


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean of the defined values; the library writes −1 where there is no true box."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _known(values: NDArray[np.float64]) -> float:
    """The mean over all sizes, which is defined wherever there is a true box at all."""
    mean = _mean(values)
    assert mean is not None, "a true box is there"
    return mean


def _run(pairs: Sequence[tuple[Boxes, Boxes]], classes: int, limits: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (10 IoU, 101 recalls, classes, 4 sizes, limits) and recall (10 IoU, classes, 4 sizes, limits)."""
    truth, found = COCO(_coco([true for true, _ in pairs], classes)), COCO(_coco([predicted for _, predicted in pairs], classes))
    evaluation = COCOeval_faster(truth, found, iouType="bbox", print_function=_say_nothing)
    evaluation.params.maxDets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _say_nothing(*_: object, **__: object) -> None:
    """In place of the library's print."""


def _coco(tiles: Sequence[Boxes], classes: int) -> dict[str, Any]:
    """Boxes of all tiles as a COCO document; ids start at 1, for 0 means "no match" to the evaluation."""
    annotations: list[dict[str, Any]] = []
    for image, boxes in enumerate(tiles, start=1):
        scores = np.ones(len(boxes)) if boxes.scores is None else boxes.scores
        sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
        for corner, side, area, label, score in zip(boxes.xyxy[:, :2], sides, box_area(boxes.xyxy), boxes.labels, scores, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label) + 1,
                    "bbox": [*corner.tolist(), *side.tolist()],
                    "area": float(area),
                    "iscrowd": 0,
                    "score": float(score),
                }
            )
    return {
        "images": [{"id": image + 1} for image in range(len(tiles))],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
        "annotations": annotations,
    }
