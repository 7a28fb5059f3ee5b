"""Which detections stand for an object each."""

import dataclasses
import math

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.detections import Detections, KnownObjects, ObjectConfig, keep_objects, suppress_duplicates

CONFIG = ObjectConfig()


def test_duplicates_count_once_whatever_their_class_and_the_best_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [30, 30, 40, 40]])
    found = Detections(np.zeros(3), boxes, np.array([[0.3, 0.1], [0.1, 0.6], [0.4, 0.2]]))
    kept = keep_objects(found, CONFIG)
    assert kept.scores.tolist() == [0.6, 0.4]


def test_a_suppressed_box_suppresses_nobody() -> None:
    chain = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [2.2, 0, 12.2, 10]], dtype=float)
    assert suppress_duplicates(chain, 0.7).tolist() == [0, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_one_tile_alone_loses_the_same_duplicates_as_among_others(count: int) -> None:
    generator = np.random.default_rng(count)
    corner = generator.uniform(0, 20, (count, 2))
    boxes = np.hstack([corner, corner + generator.uniform(8, 12, (count, 2))])
    scores = np.linspace(0.9, 0.5, count).reshape(-1, 1)
    among = keep_objects(Detections(np.zeros(count), boxes, scores), ObjectConfig(duplicate_iou=0.5))
    alone = boxes[suppress_duplicates(boxes, 0.5)]
    assert len(alone) < count or count < 60
    np.testing.assert_array_equal(alone, among.xyxy)


def test_the_order_of_detections_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    corner = generator.integers(0, 30, (200, 2))
    boxes = np.hstack([corner, corner + generator.integers(5, 20, (200, 2))]).astype(float)
    scores = np.round(generator.random((200, 3)), 1)
    tiles = generator.integers(0, 6, 200)
    order = generator.permutation(200)
    first = keep_objects(Detections(tiles, boxes, scores), CONFIG)
    second = keep_objects(Detections(tiles[order], boxes[order], scores[order]), CONFIG)
    np.testing.assert_array_equal(first.xyxy, second.xyxy)
    np.testing.assert_array_equal(first.class_scores, second.class_scores)


@pytest.mark.parametrize(
    ("tile_index", "xyxy", "class_scores"),
    [
        ([0, 1], [[0, 0, 1, 1]], [[0.5]]),
        ([0], [[0, 0, 1]], [[0.5]]),
        ([0], [[0, 0, 1, 1]], [0.5]),
        ([-1], [[0, 0, 1, 1]], [[0.5]]),
    ],
)
def test_wrong_detections_are_refused(tile_index: list[int], xyxy: list[list[float]], class_scores: list[list[float]]) -> None:
    with pytest.raises(BadInput):
        Detections(np.array(tile_index), np.array(xyxy), np.array(class_scores))


@pytest.mark.parametrize("name", ["drift", "features"])
def test_a_column_of_another_length_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"2 {name} for 1 detections"):
        Detections(np.zeros(1), np.zeros((1, 4)), np.zeros((1, 1)), **{name: np.zeros((2, 3))})


def test_numbers_that_are_none_are_pointed_at() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, math.inf], [0, 0, 1, 1], [0, 0, 1, 1]])
    scores = np.array([[0.5], [0.5], [math.nan], [1.5]])
    assert Detections(np.zeros(4), boxes, scores).wrong.tolist() == [False, True, True, True]
    right = Detections(np.zeros(2), np.zeros((2, 4)), np.ones((2, 1)))
    assert not right.wrong.any()
    assert dataclasses.replace(right, drift=np.array([math.nan, 0.0])).wrong.tolist() == [True, False]
    assert dataclasses.replace(right, features=np.array([[0.0, 1], [0, math.nan]])).wrong.tolist() == [False, True]


def test_what_belongs_to_a_detection_goes_with_it() -> None:
    boxes = np.array([[0.0, 0, 9, 9], [30, 30, 39, 39]])
    found = Detections(np.array([1, 0]), boxes, np.array([[0.5], [0.6]]), np.array([0.1, 0.2]), np.array([[1.0], [2.0]]))
    kept = keep_objects(found, CONFIG)
    assert kept.tile_index.tolist() == [0, 1]
    assert kept.drift.tolist() == [0.2, 0.1]
    assert kept.features.tolist() == [[2.0], [1.0]]


@pytest.mark.parametrize(("rows", "labels"), [([0], [-1]), ([-1], [0]), ([0, 1], [0])])
def test_wrong_known_objects_are_refused(rows: list[int], labels: list[int]) -> None:
    with pytest.raises(BadInput):
        KnownObjects(np.array(rows), np.zeros((len(rows), 4)), np.array(labels))
