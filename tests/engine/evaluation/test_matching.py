"""Matching at one IoU: COCO's rule, class by class, the strongest first."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.errors import UsageError
from engine.evaluation.matching import match_boxes, match_tiles

Pairs = list[tuple[Boxes, Boxes]]


def row(*lefts: float, width: float = 10) -> np.ndarray:
    """Boxes of 10 px height at these left edges."""
    return np.array([[left, 0, left + width, 10] for left in lefts], dtype=float).reshape(-1, 4)


@pytest.mark.parametrize(
    ("true", "predicted", "found"),
    [
        (row(0, 20), row(20, 0), [1, 0]),
        (row(0), row(1, 0), [0, -1]),
        (row(0, 4), row(3, 2), [1, 0]),
        (row(0), row(5.1), [-1]),
        (row(0), row(0, width=5), [0]),
        (row(0, 0), row(0, 0, 0), [1, 0, -1]),
        (row(), row(0), [-1]),
        (row(0), row(), []),
    ],
    ids=["apart", "one box once", "the nearest", "too far", "half is enough", "of two alike the later", "nothing true", "nothing said"],
)
def test_each_prediction_takes_the_free_box_that_it_overlaps_most(true: np.ndarray, predicted: np.ndarray, found: list[int]) -> None:
    assert match_boxes(true, predicted, 0.5).tolist() == found


def test_a_perfect_box_counts_at_an_iou_of_one() -> None:
    assert match_boxes(row(0.1), row(0.1), 1.0).tolist() == [0]


def test_classes_do_not_meet_and_the_stronger_goes_first() -> None:
    true = Boxes(row(0, 20), [0, 1])
    predicted = Boxes(row(1, 0, 20), [0, 0, 0], [0.5, 0.9, 0.8])
    matches = match_tiles([(Boxes.empty(), Boxes.empty(scored=True)), (true, predicted)], 2)
    assert matches.source.tolist() == [1, 2, 0]
    assert matches.true_box.tolist() == [0, -1, -1]
    assert matches.tile.tolist() == [1, 1, 1]
    assert matches.true_counts.tolist() == [[0, 0], [1, 1]]


def test_only_the_best_of_a_class_on_a_tile_count() -> None:
    predicted = Boxes(row(0, 20, 40), [0, 0, 1], [0.1, 0.9, 0.1])
    matches = match_tiles([(Boxes.empty(), predicted)], 2, max_detections=1)
    assert matches.source.tolist() == [1, 2]


def test_no_true_box_is_found_twice_and_only_by_its_own_class(scene: Callable[..., Pairs]) -> None:
    pairs = scene(0, 20, 30)
    matches = match_tiles(pairs, 4)
    for tile, (true, predicted) in enumerate(pairs):
        mine = matches.right & (matches.tile == tile)
        assert len(np.unique(matches.true_box[mine])) == mine.sum()
        assert (true.labels[matches.true_box[mine]] == predicted.labels[matches.source[mine]]).all()
    assert matches.right.any()


@pytest.mark.parametrize("wrong", [{"iou_threshold": 0.0}, {"iou_threshold": 1.1}, {"max_detections": 0}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        match_tiles([], 1, **wrong)  # type: ignore[arg-type]
