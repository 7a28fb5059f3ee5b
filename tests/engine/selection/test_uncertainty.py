"""Uncertainty: duplicates and background queries do not count, and the numbers are those of the formula."""

import math

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.uncertainty import (
    Detections,
    UncertaintyConfig,
    keep_objects,
    object_uncertainty,
    suppress_duplicates,
    tile_uncertainty,
)

CONFIG = UncertaintyConfig()


def detections(rows: list[tuple[int, list[float], list[float]]]) -> Detections:
    tiles, boxes, scores = zip(*rows, strict=True)
    return Detections(np.array(tiles), np.array(boxes), np.array(scores))


def bits(p: float) -> float:
    return -(p * math.log2(p) + (1 - p) * math.log2(1 - p))


@pytest.mark.parametrize(
    ("class_scores", "expected"),
    [
        ([0.5], 1.0),
        ([0.9], bits(0.9)),
        ([0.0], 0.0),
        ([1.0], 0.0),
        ([0.8, 0.8], bits(0.8) + 0.5),
        ([0.2, 0.8, 0.1], bits(0.8) + 0.5 * 0.25),
        ([0.0, 0.0], 0.0),
        ([0.2, 0.05], bits(0.2) + 0.5 * 0.25),
    ],
)
def test_object_uncertainty_is_entropy_and_class_ambiguity(class_scores: list[float], expected: float) -> None:
    assert object_uncertainty(np.array([class_scores]), 0.5)[0] == pytest.approx(expected, abs=1e-9)


def test_background_queries_do_not_count() -> None:
    quiet = detections([(0, [0, 0, 9, 9], [0.5]), (1, [0, 0, 9, 9], [0.5])] + [(1, [20 + i, 0, 29 + i, 9], [0.09]) for i in range(50)])
    doubt = tile_uncertainty(keep_objects(quiet, CONFIG), 2, CONFIG)
    assert doubt[0] == doubt[1] == pytest.approx(1.0)


def test_duplicates_count_once_whatever_their_class_and_the_best_is_kept() -> None:
    found = detections([(0, [0, 0, 10, 10], [0.3, 0.1]), (0, [0, 0, 10, 11], [0.1, 0.6]), (0, [30, 30, 40, 40], [0.4, 0.2])])
    kept = keep_objects(found, CONFIG)
    assert kept.scores.tolist() == [0.6, 0.4]


def test_a_suppressed_box_suppresses_nobody() -> None:
    chain = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [2.2, 0, 12.2, 10]], dtype=float)
    assert suppress_duplicates(chain, 0.7).tolist() == [0, 2]


def test_only_the_strongest_doubts_add_up() -> None:
    crowd = detections([(1, [20 * i, 0, 20 * i + 9, 9], [0.5]) for i in range(30)] + [(1, [0, 50, 9, 59], [0.99])])
    doubt = tile_uncertainty(keep_objects(crowd, CONFIG), 3, CONFIG)
    assert doubt.tolist() == [0, pytest.approx(10.0), 0]


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
    np.testing.assert_array_equal(tile_uncertainty(first, 6, CONFIG), tile_uncertainty(second, 6, CONFIG))


def test_no_detection_is_no_doubt() -> None:
    nothing = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 2)))
    assert tile_uncertainty(keep_objects(nothing, CONFIG), 3, CONFIG).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("tile_index", "xyxy", "class_scores"),
    [
        ([0, 1], [[0, 0, 1, 1]], [[0.5]]),
        ([0], [[0, 0, 1]], [[0.5]]),
        ([0], [[0, 0, 1, 1]], [0.5]),
        ([0], [[0, 0, 1, 1]], [[1.5]]),
        ([0], [[0, 0, 1, 1]], [[math.nan]]),
        ([0], [[0, 0, 1, math.inf]], [[0.5]]),
        ([-1], [[0, 0, 1, 1]], [[0.5]]),
    ],
)
def test_wrong_detections_are_refused(tile_index: list[int], xyxy: list[list[float]], class_scores: list[list[float]]) -> None:
    with pytest.raises(BadInput):
        Detections(np.array(tile_index), np.array(xyxy), np.array(class_scores))
