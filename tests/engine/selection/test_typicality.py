"""The cold start: one typical tile of every cluster, unlabelled clusters first."""

import numpy as np
import pytest

from engine.selection.coverage import Directions
from engine.selection.typicality import typical_order, typicality

NONE = np.zeros((0, 8))


def blobs(sizes: list[int]) -> np.ndarray:
    generator = np.random.default_rng(0)
    points = np.concatenate([10 * np.eye(8)[each] + generator.normal(0, 0.3, (size, 8)) for each, size in enumerate(sizes)])
    return Directions(points).of(np.arange(len(points)))


def group(row: int, sizes: list[int]) -> int:
    return int(np.searchsorted(np.cumsum(sizes), row, side="right"))


def test_the_middle_of_a_cluster_is_typical() -> None:
    angle = np.linspace(-0.5, 0.5, 41)
    found = typicality(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert abs(int(found.argmax()) - 20) <= 2
    assert found.argmin() in (0, 40)
    assert typicality(np.ones((1, 2))).tolist() == [1]


def test_each_cluster_is_visited_the_largest_first() -> None:
    sizes = [10, 30, 20]
    order = typical_order(blobs(sizes), NONE, 3, np.random.default_rng(0))
    assert [group(row, sizes) for row in order[:6]] == [1, 2, 0, 1, 2, 0]
    assert sorted(order.tolist()) == list(range(60))


def test_a_labelled_cluster_waits() -> None:
    sizes = [10, 30, 20]
    points = blobs(sizes)
    rest = np.delete(np.arange(60), [15, 16])
    order = rest[typical_order(points[rest], points[[15, 16]], 1, np.random.default_rng(0))]
    assert [group(row, sizes) for row in order[:4]] == [2, 0, 2, 0]


def test_clusters_of_fewer_than_five_come_last() -> None:
    sizes = [3, 12, 12]
    order = typical_order(blobs(sizes), NONE, 3, np.random.default_rng(0))
    assert [group(row, sizes) for row in order[-3:]] == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_tiles_are_all_there(count: int) -> None:
    points = Directions(np.random.default_rng(0).normal(size=(count, 4))).of(np.arange(count))
    assert sorted(typical_order(points, np.zeros((0, 4)), 3, np.random.default_rng(0)).tolist()) == list(range(count))
