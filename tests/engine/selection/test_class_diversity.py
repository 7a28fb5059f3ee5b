"""Diversity of objects: the distances of the formula, and an order that stands for all."""

import numpy as np
import pytest

from engine.selection.class_diversity import diverse_order, tile_distances
from engine.selection.detections import Detections


def objects(rows: list[tuple[int, int, float, list[float]]]) -> Detections:
    """(tile, class of two, score, feature) each."""
    scores = np.zeros((len(rows), 2))
    for place, (_, label, score, _) in enumerate(rows):
        scores[place, label] = score
    tile = np.array([row[0] for row in rows], dtype=int)
    features = np.array([row[3] for row in rows]).reshape(-1, 2)
    return Detections(tile, np.tile([0.0, 0, 9, 9], (len(rows), 1)), scores, features=features)


EAST, NORTH = [3.0, 0.0], [0.0, 2.0]


def test_alike_objects_are_near_and_a_missing_class_is_far() -> None:
    found = objects([(0, 0, 0.5, EAST), (1, 0, 0.9, EAST), (2, 0, 0.5, NORTH), (3, 1, 0.5, EAST)])
    np.testing.assert_allclose(tile_distances(found, np.arange(4)), [[0, 0, 1, 2], [0, 0, 1, 2], [1, 1, 0, 2], [2, 2, 2, 0]])


def test_scores_weigh_and_the_best_match_counts() -> None:
    found = objects([(0, 0, 0.6, EAST), (0, 1, 0.2, EAST), (1, 0, 0.5, EAST), (1, 0, 0.5, NORTH)])
    there = (0.6 * 0 + 0.2 * 2) / 0.8
    back = (0.5 * 0 + 0.5 * 1) / 1.0
    assert tile_distances(found, np.arange(2))[0, 1] == pytest.approx((there + back) / 2, abs=2**-15)


def test_empty_tiles_are_alike_and_far_from_all_others() -> None:
    found = objects([(1, 0, 0.5, EAST)])
    np.testing.assert_allclose(tile_distances(found, np.array([0, 1, 2])), [[0, 2, 0], [2, 0, 2], [0, 2, 0]])


def test_only_the_asked_tiles_are_compared() -> None:
    found = objects([(0, 0, 0.5, EAST), (5, 0, 0.5, NORTH), (9, 0, 0.5, EAST)])
    np.testing.assert_allclose(tile_distances(found, np.array([5, 9])), [[0, 1], [1, 0]])


def test_each_group_gives_its_middle() -> None:
    place = np.array([0.0, 1, 2, 10, 11, 12, 30])
    order = diverse_order(np.abs(place[:, None] - place[None]), 3)
    assert sorted(order[:3].tolist()) == [1, 4, 6]
    assert sorted(order.tolist()) == list(range(7))


def test_more_wanted_than_there_are() -> None:
    assert sorted(diverse_order(np.zeros((2, 2)), 5).tolist()) == [0, 1]


def test_tiles_that_are_all_alike_come_once_each() -> None:
    distances = np.zeros((6, 6))
    distances[0, 1:] = distances[1:, 0] = 2.0
    assert sorted(diverse_order(distances, 4).tolist()) == list(range(6))
