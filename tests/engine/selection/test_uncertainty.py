"""Uncertainty: duplicates and background queries do not count, and the numbers are those of the formula."""

import math

import numpy as np
import pytest

from engine.selection.detections import Detections, ObjectConfig, keep_objects
from engine.selection.uncertainty import UncertaintyConfig, object_uncertainty, tile_uncertainty

CONFIG, OBJECTS = UncertaintyConfig(), ObjectConfig()


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
    doubt = tile_uncertainty(keep_objects(quiet, OBJECTS), 2, CONFIG)
    assert doubt[0] == doubt[1] == pytest.approx(1.0)


def test_only_the_strongest_doubts_add_up() -> None:
    crowd = detections([(1, [20 * i, 0, 20 * i + 9, 9], [0.5]) for i in range(30)] + [(1, [0, 50, 9, 59], [0.99])])
    doubt = tile_uncertainty(keep_objects(crowd, OBJECTS), 3, CONFIG)
    assert doubt.tolist() == [0, pytest.approx(10.0), 0]


def test_no_detection_is_no_doubt() -> None:
    nothing = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 2)))
    assert tile_uncertainty(keep_objects(nothing, OBJECTS), 3, CONFIG).tolist() == [0, 0, 0]


def test_drift_and_difficulty_add_to_the_doubt() -> None:
    scores = np.array([[0.5, 0.0], [0.0, 0.5]])
    found = Detections(np.arange(2), np.tile([0.0, 0, 9, 9], (2, 1)), scores, drift=np.array([0.0, 0.4]))
    assert tile_uncertainty(found, 2, CONFIG).tolist() == [1, 1]
    drifting = CONFIG.model_copy(update={"drift_weight": 0.5})
    assert tile_uncertainty(found, 2, drifting).tolist() == pytest.approx([1, 1.2])
    assert tile_uncertainty(found, 2, CONFIG, np.array([1.0, 1.1])).tolist() == pytest.approx([1, 1.1])
