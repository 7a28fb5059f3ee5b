"""Curves, thresholds, confusion, calibration and worst tiles: against hand-computed cases, and in step with one another and with COCO."""

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.evaluation.analysis import analyse
from engine.evaluation.calibration import reliability
from engine.evaluation.confusion import confusion_matrix
from engine.evaluation.curves import at_threshold, best_f1, precision_recall
from engine.evaluation.detection import evaluate_detections
from engine.evaluation.matching import Matches, match_tiles
from engine.evaluation.worst import TileErrors, tile_errors, worst_tiles
from engine.label_set import LabelSet

LABELS = LabelSet.of(["car", "ship", "tree", "never seen"])
Pairs = list[tuple[Boxes, Boxes]]


def matches_of(*said: tuple[float, bool], boxes: int) -> Matches:
    """One tile and class: (score, right) of each prediction, and how many true boxes there are."""
    right = np.array([hit for _, hit in said], dtype=bool)
    zeros = np.zeros(len(said), dtype=np.int64)
    scores = np.array([score for score, _ in said], dtype=float)
    return Matches(zeros, zeros, scores, np.arange(len(said)), np.where(right, np.cumsum(right) - 1, -1), np.array([[boxes]]))


FIVE = [(0.9, True), (0.8, False), (0.7, True), (0.6, True), (0.5, False)]


def test_precision_is_interpolated_from_the_right() -> None:
    curve = precision_recall(matches_of(*FIVE, boxes=4))
    assert curve.precision is not None
    assert [curve.precision[at] for at in (0, 25, 26, 50, 51, 75, 76, 100)] == [1, 1, 0.75, 0.75, 0.75, 0.75, 0, 0]
    assert curve.average_precision == pytest.approx((26 * 1 + 50 * 0.75) / 101)


@pytest.mark.parametrize(
    ("threshold", "counts", "precision", "recall", "f1"),
    [
        (0.0, (3, 1, 2), 0.6, 0.75, 6 / 9),
        (0.6, (3, 1, 1), 0.75, 0.75, 0.75),
        (0.61, (2, 2, 1), 2 / 3, 0.5, 4 / 7),
        (0.95, (0, 4, 0), None, 0, 0),
    ],
)
def test_a_threshold_lets_in_what_scores_as_much_or_more(
    threshold: float, counts: tuple[int, int, int], precision: float | None, recall: float, f1: float
) -> None:
    point = at_threshold(matches_of(*FIVE, boxes=4), threshold)
    assert (point.found, point.missed, point.false) == counts
    assert (point.precision, point.recall, point.f1) == (precision, recall, pytest.approx(f1))


@pytest.mark.parametrize(
    ("said", "boxes", "threshold", "f1"),
    [
        (FIVE, 4, 0.6, 0.75),
        ([(0.9, True), (0.5, False), (0.5, True)], 2, 0.5, 0.8),
        ([(0.9, True), (0.5, True), (0.5, False)], 2, 0.5, 0.8),
        ([(0.9, True), (0.5, False), (0.5, False), (0.4, True)], 2, 0.9, 2 / 3),
        ([(0.9, False)], 2, 1.0, 0),
        ([], 2, 1.0, 0),
        ([(0.9, False)], 0, 1.0, None),
    ],
    ids=[
        "in the middle",
        "a tie is let in whole",
        "in any order",
        "of two alike the higher",
        "nothing right",
        "nothing said",
        "nothing true",
    ],
)
def test_best_f1_is_that_of_some_threshold(said: list[tuple[float, bool]], boxes: int, threshold: float, f1: float | None) -> None:
    best = best_f1(matches_of(*said, boxes=boxes))
    assert (best.threshold, best.f1) == (threshold, f1 if f1 is None else pytest.approx(f1))


def test_no_threshold_is_better_than_the_best(scene: Callable[..., Pairs]) -> None:
    analysis = analyse(scene(5, 20, 20), LABELS, range(20))
    assert max(point.f1 or 0 for point in analysis.thresholds) == pytest.approx(analysis.best.f1), "scores have two digits here"


@pytest.mark.parametrize(("seed", "tiles", "most", "limit"), [(0, 20, 15, 100), (1, 5, 60, 10), (3, 40, 4, 100)])
def test_the_area_under_a_curve_is_ap50_of_coco(scene: Callable[..., Pairs], seed: int, tiles: int, most: int, limit: int) -> None:
    pairs = scene(seed, tiles, most)
    metrics = evaluate_detections(pairs, LABELS, max_detections=limit)
    analysis = analyse(pairs, LABELS, range(tiles), max_detections=limit)
    areas = {name: curve.average_precision for name, curve in analysis.curves.items()}
    assert areas == {name: value if value is None else pytest.approx(value, abs=1e-9) for name, value in metrics.ap50_per_class.items()}
    assert sum(curve.boxes for curve in analysis.curves.values()) == analysis.curve_of_all.boxes == metrics.boxes


def test_confusion_of_a_scene_by_hand() -> None:
    place = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], dtype=float)
    true = Boxes(place[:3], [0, 1, 1])
    predicted = Boxes(place[[0, 0, 1, 3, 2]], [0, 1, 0, 1, 1], [0.5, 0.9, 0.8, 0.7, 0.1])
    pairs = [(true, predicted)]
    matrix = confusion_matrix(pairs, match_tiles(pairs, 2), threshold=0.3)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 2, 0]], "the right box stays with its class though a wrong one is stronger"


def test_confusion_adds_up_to_true_boxes_and_predictions(scene: Callable[..., Pairs]) -> None:
    pairs = scene(6, 15, 20)
    matches = match_tiles(pairs, 4)
    matrix, point = confusion_matrix(pairs, matches, threshold=0.4), at_threshold(matches, 0.4)
    assert matrix[:4].sum(1).tolist() == matches.true_counts.sum(0).tolist()
    assert matrix[:, :4].sum(0).tolist() == np.bincount(matches.label[matches.score >= 0.4], minlength=4).tolist()
    assert np.trace(matrix) == point.found
    assert matrix[:4, :4].sum() > point.found, "some boxes were taken for another class"


def test_calibration_by_hand() -> None:
    found = reliability(matches_of((0.95, True), (1.0, True), (0.3, False), (0.35, True), (0.01, False), boxes=9))
    assert [(each.predictions, each.precision) for each in found.bins if each.predictions] == [(2, 0.5), (2, 1.0)]
    assert found.bins[3].low == 0.3
    assert found.expected_error == pytest.approx(0.5 * (0.5 - 0.325) + 0.5 * (1 - 0.975))


def test_scores_that_are_the_share_of_right_ones_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.05, 1, 20_000)
    honest = [(score, bool(hit)) for score, hit in zip(scores, generator.random(20_000) < scores, strict=True)]
    sure = [(score**0.3, hit) for score, hit in honest]
    assert (reliability(matches_of(*honest, boxes=20_000)).expected_error or 0) < 0.02
    assert (reliability(matches_of(*sure, boxes=20_000)).expected_error or 0) > 0.15
    assert reliability(matches_of((0.01, False), boxes=1)).expected_error is None


def test_the_tile_with_most_wrong_boxes_is_the_worst() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    good = (Boxes(box, [0]), Boxes(box, [0], [0.9]))
    missed = (Boxes(box, [0]), Boxes.empty(scored=True))
    wrong = (Boxes(box, [0]), Boxes(np.vstack([box + 50, box + 80]), [0, 0], [0.9, 0.1]))
    empty = (Boxes.empty(), Boxes.empty(scored=True))
    pairs = [good, missed, wrong, empty, missed]
    errors = tile_errors(match_tiles(pairs, 1), [11, 12, 13, 14, 15], threshold=0.5)
    assert errors[0] == TileErrors(11, 1, 0, 0, 1.0)
    assert errors[2] == TileErrors(13, 0, 1, 1, 0.0)
    assert errors[3].f1 == 1
    assert [each.tile for each in worst_tiles(errors, 9)] == [13, 12, 15]
    assert [each.tile for each in worst_tiles(errors, 1)] == [13]


@pytest.mark.parametrize("pairs", [[], [(Boxes.empty(), Boxes.empty(scored=True))]])
def test_nothing_at_all_is_no_error(pairs: Pairs) -> None:
    analysis = analyse(pairs, LABELS, range(len(pairs)))
    assert (analysis.best.f1, analysis.curve_of_all.precision, analysis.reliability.expected_error, analysis.worst) == (
        None,
        None,
        None,
        (),
    )


def test_it_is_ready_for_json_and_counts_at_the_threshold_that_is_asked_for(scene: Callable[..., Pairs]) -> None:
    analysis = analyse(scene(7, 6, 10), LABELS, range(6), threshold=0.8, worst=2)
    json.dumps(asdict(analysis), allow_nan=False)
    assert analysis.point.threshold == 0.8
    assert sum(map(sum, analysis.confusion[:4])) == analysis.point.found + analysis.point.missed
    assert len(analysis.worst) == 2
