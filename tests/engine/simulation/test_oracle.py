"""The oracle's bill, computed by hand."""

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.selection.cost import Prices
from engine.simulation.oracle import OracleVisit, charge, shown_boxes

PRICES = Prices(open=5, verify=2, edit=6, draw=10, delete=1)
A, B, C = [0, 0, 10, 10], [50, 0, 60, 10], [0, 50, 10, 60]


def boxes(*xyxy: list[float], labels: list[int] | None = None, scores: list[float] | None = None) -> Boxes:
    return Boxes(
        np.array(xyxy, dtype=float).reshape(-1, 4), np.array(labels or [0] * len(xyxy)), None if scores is None else np.array(scores)
    )


@pytest.mark.parametrize(
    ("true", "shown", "visit"),
    [
        (boxes(), boxes(), OracleVisit(5, 0, 0, 0, 0)),
        (boxes(A, B), boxes(), OracleVisit(25, 0, 0, 2, 0)),
        (boxes(), boxes(A, B), OracleVisit(7, 0, 0, 0, 2)),
        (boxes(A), boxes(A), OracleVisit(7, 1, 0, 0, 0)),
        (boxes(A), boxes([0, 0, 10, 8]), OracleVisit(7, 1, 0, 0, 0)),
        (boxes(A), boxes([0, 0, 10, 7.9]), OracleVisit(11, 0, 1, 0, 0)),
        (boxes(A), boxes([0, 0, 10, 5]), OracleVisit(11, 0, 1, 0, 0)),
        (boxes(A), boxes([0, 0, 10, 4.9]), OracleVisit(16, 0, 0, 1, 1)),
        (boxes(A), boxes(A, labels=[1]), OracleVisit(11, 0, 1, 0, 0)),
        (boxes(A), boxes([0, 0, 10, 4.9], labels=[1]), OracleVisit(16, 0, 0, 1, 1)),
        (boxes(A), boxes(A, [0, 0, 10, 6], labels=[1, 0]), OracleVisit(12, 0, 1, 0, 1)),
        (boxes(A, A, labels=[0, 1]), boxes(A, A, labels=[2, 1]), OracleVisit(13, 1, 1, 0, 0)),
        (boxes(A), boxes(A, A), OracleVisit(8, 1, 0, 0, 1)),
        (boxes(A, A), boxes(A), OracleVisit(17, 1, 0, 1, 0)),
        (boxes(A, B, C), boxes(C, [50, 0, 60, 6], [90, 90, 99, 99]), OracleVisit(5 + 2 + 6 + 10 + 1, 1, 1, 1, 1)),
    ],
)
def test_the_bill(true: Boxes, shown: Boxes, visit: OracleVisit) -> None:
    assert charge(true, shown, PRICES) == visit


def test_matching_is_the_best_for_all_and_not_the_first_that_fits() -> None:
    true = boxes([0, 0, 10, 10], [0, 4, 10, 14])
    shown = boxes([0, 2, 10, 12], [0, -2, 10, 8])
    assert charge(true, shown, PRICES) == OracleVisit(17, 0, 2, 0, 0)


def test_the_order_of_boxes_does_not_change_the_bill() -> None:
    generator = np.random.default_rng(0)
    corner = generator.integers(0, 30, (20, 2))
    xyxy = np.hstack([corner, corner + 12]).astype(float)
    true, shown = Boxes(xyxy, np.arange(20) % 2), Boxes(xyxy + generator.normal(0, 1, (20, 4)), np.arange(20) % 2)
    for _ in range(5):
        mix, other = generator.permutation(20), generator.permutation(20)
        assert charge(true.take(mix), shown.take(other), PRICES) == charge(true, shown, PRICES)


def test_weak_and_duplicate_predictions_are_not_shown() -> None:
    predicted = boxes(A, [0, 0, 10, 9], B, C, labels=[0, 1, 0, 0], scores=[0.5, 0.9, 0.29, 0.3])
    shown = shown_boxes(predicted, boxes(), 0.3)
    assert shown.xyxy.tolist() == [[0, 0, 10, 9], C]
    assert shown.labels.tolist() == [1, 0]


def test_what_was_paid_for_is_shown_in_place_of_its_prediction() -> None:
    predicted = boxes([0, 0, 10, 6], B, scores=[0.9, 0.9])
    shown = shown_boxes(predicted, boxes(A), 0.3)
    assert shown.xyxy.tolist() == [A, B]
    assert charge(boxes(A, B), shown, PRICES) == OracleVisit(9, 2, 0, 0, 0)


def test_without_predictions_nothing_but_the_accepted_is_shown() -> None:
    assert shown_boxes(Boxes.empty(scored=True), boxes(A), 0.3).xyxy.tolist() == [A]
    assert len(shown_boxes(Boxes.empty(scored=True), Boxes.empty(), 0.3)) == 0
