"""Detection metrics: those of the reference implementation, and never an undefined number."""

import contextlib
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.errors import BadInput, NothingToDo
from engine.evaluation.detection import DetectionMetrics, evaluate_detections
from engine.label_set import LabelSet

LABELS = LabelSet.of(["car", "ship", "tree", "never seen"])
Pairs = list[tuple[Boxes, Boxes]]


def reference(pairs: Pairs, max_detections: int) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def document(which: int) -> dict[str, list[dict[str, object]]]:
        annotations = [
            {
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "score": 1.0 if pair[which].scores is None else float(pair[which].scores[row]),
            }
            for image, pair in enumerate(pairs)
            for row, ((x1, y1, x2, y2), label) in enumerate(zip(pair[which].xyxy.tolist(), pair[which].labels, strict=True))
        ]
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(LABELS.names)]
        return {"images": [{"id": image} for image in range(len(pairs))], "annotations": annotations, "categories": categories}

    limits = sorted({100, 300, max_detections})
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset, found.dataset = document(0), document(1)
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = limits
        evaluation.evaluate()
        evaluation.accumulate()

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else math.nan

    at = limits.index(max_detections)
    precision, recall = evaluation.eval["precision"][..., at], evaluation.eval["recall"][..., at]
    overall = [mean(precision[..., 0]), mean(precision[0, ..., 0]), mean(precision[5, ..., 0])]
    return [
        *overall,
        *(mean(precision[..., size]) for size in (1, 2, 3)),
        mean(recall[..., 0]),
        *(mean(evaluation.eval["recall"][:, :, 0, limits.index(limit)]) for limit in (100, 300)),
        *(mean(precision[:, :, k, 0]) for k in range(4)),
        *(mean(precision[0, :, k, 0]) for k in range(4)),
    ]


def numbers(metrics: DetectionMetrics) -> list[float]:
    found = [metrics.ap, metrics.ap50, metrics.ap75, metrics.ap_small, metrics.ap_medium, metrics.ap_large]
    found += [metrics.ar, metrics.ar100, metrics.ar300, *metrics.ap_per_class.values(), *metrics.ap50_per_class.values()]
    return [math.nan if value is None else value for value in found]


@pytest.mark.parametrize(
    ("seed", "tiles", "most", "max_detections"),
    [
        (0, 20, 15, 10),
        (0, 20, 15, 100),
        (1, 5, 60, 10),
        (1, 5, 60, 300),
        (2, 1, 3, 100),
        (3, 40, 4, 100),
        (4, 1, 450, 10),
        (4, 1, 450, 200),
    ],
)
def test_the_metrics_are_those_of_pycocotools(scene: Callable[..., Pairs], seed: int, tiles: int, most: int, max_detections: int) -> None:
    pairs = scene(seed, tiles, most)
    metrics = evaluate_detections(pairs, LABELS, max_detections=max_detections)
    assert numbers(metrics) == pytest.approx(reference(pairs, max_detections), abs=1e-5, nan_ok=True)
    assert 0 < metrics.ap < 1
    assert metrics.ar100 <= metrics.ar300


def test_dense_tiles_need_more_than_a_hundred(scene: Callable[..., Pairs]) -> None:
    metrics = evaluate_detections(scene(4, 1, 450), LABELS)
    assert metrics.ar == metrics.ar100 < metrics.ar300


def one(xyxy: list[float], label: int = 0, score: float | None = None) -> Boxes:
    return Boxes(np.array([xyxy]), np.array([label]), None if score is None else np.array([score]))


def test_what_is_undefined_is_none_and_not_a_number() -> None:
    metrics = evaluate_detections([(one([0, 0, 10, 10]), one([0, 0, 10, 10], score=0.4))], LABELS)
    assert (metrics.ap, metrics.ap50, metrics.ap_small, metrics.ar) == pytest.approx((1, 1, 1, 1))
    assert metrics.ap_medium is metrics.ap_large is None
    assert metrics.ap50_per_class == {"car": pytest.approx(1), "ship": None, "tree": None, "never seen": None}
    assert (metrics.tiles, metrics.boxes, metrics.detections) == (1, 1, 1)
    json.dumps(asdict(metrics), allow_nan=False)


def test_no_prediction_is_zero() -> None:
    metrics = evaluate_detections([(one([0, 0, 10, 10]), Boxes.empty(scored=True))], LABELS)
    assert metrics.ap == metrics.ap50 == metrics.ap_small == metrics.ar == 0


def test_the_right_box_of_the_wrong_class_is_wrong() -> None:
    metrics = evaluate_detections([(one([0, 0, 10, 10]), one([0, 0, 10, 10], label=1, score=0.4))], LABELS)
    assert metrics.ap50 == 0


def test_invented_boxes_on_empty_tiles_cost_precision() -> None:
    good = (one([0, 0, 10, 10]), one([0, 0, 10, 10], score=0.4))
    empty = (Boxes.empty(), one([0, 0, 10, 10], score=0.9))
    assert evaluate_detections([good, empty], LABELS).ap50 == pytest.approx(0.5, abs=0.01)


def test_only_the_best_predictions_of_a_tile_count() -> None:
    side = np.arange(150)[:, None] * 12.0
    xyxy = np.hstack([side, side, side + 10, side + 10])
    dense = (Boxes(xyxy, np.zeros(150)), Boxes(xyxy, np.zeros(150), np.linspace(1, 0, 150)))
    assert evaluate_detections([dense], LABELS).ar == pytest.approx(100 / 150)
    assert evaluate_detections([dense], LABELS, max_detections=300).ar == 1


@pytest.mark.parametrize("pairs", [[], [(Boxes.empty(), one([0, 0, 9, 9], score=0.5))]], ids=["no tile", "no true box"])
def test_nothing_to_measure_is_said(pairs: Pairs) -> None:
    with pytest.raises(NothingToDo):
        evaluate_detections(pairs, LABELS)


@pytest.mark.parametrize(
    ("true", "predicted", "max_detections"),
    [
        (one([0, 0, 9, 9], label=4), one([0, 0, 9, 9], score=0.5), 100),
        (one([0, 0, 9, 9]), one([0, 0, 9, 9], label=-1, score=0.5), 100),
        (one([0, 0, 9, 9]), one([0, 0, 9, 9]), 100),
        (one([0, 0, 9, 9]), one([0, 0, 9, 9], score=0.5), 0),
    ],
)
def test_wrong_boxes_are_refused(true: Boxes, predicted: Boxes, max_detections: int) -> None:
    with pytest.raises(BadInput):
        evaluate_detections([(true, predicted)], LABELS, max_detections=max_detections)


def test_it_prints_nothing_and_needs_no_catalog() -> None:
    program = (
        "import sys\n"
        "for name in ('sqlalchemy', 'rasterio', 'gradio', 'dbos', 'faiss', 'fastapi', 'typer'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "import engine.selection.rank, engine.simulation.oracle\n"
        "from engine.boxes import Boxes\n"
        "from engine.evaluation.detection import evaluate_detections\n"
        "from engine.label_set import LabelSet\n"
        "box = np.array([[0.0, 0, 9, 9]])\n"
        "evaluate_detections([(Boxes(box, [0]), Boxes(box, [0], [0.5]))], LabelSet.of(['car']))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
