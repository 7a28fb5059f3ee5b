"""k-means: it finds what is there, and is the same however it is computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.selection.clusters import k_means
from engine.selection.coverage import Directions


def blobs(sizes: list[int], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    points = np.concatenate([10 * np.eye(len(sizes), 8)[each] + generator.normal(0, 0.1, (size, 8)) for each, size in enumerate(sizes)])
    return Directions(points).of(np.arange(len(points)))


@pytest.mark.parametrize("seed", range(5))
def test_separate_groups_are_found(seed: int) -> None:
    found = k_means(blobs([20, 20, 20, 20]), 4, np.random.default_rng(seed))
    groups = np.split(found, [20, 40, 60])
    assert [len(set(group.tolist())) for group in groups] == [1, 1, 1, 1]
    assert len(set(found.tolist())) == 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 12))
def test_every_point_lies_with_the_nearest_centre_of_its_cluster(seed: int, count: int, clusters: int) -> None:
    points = Directions(np.random.default_rng(seed).normal(size=(count, 6))).of(np.arange(count))
    found = k_means(points, clusters, np.random.default_rng(seed))
    assert found.shape == (count,)
    assert 0 <= found.min() <= found.max() < clusters
    assert np.array_equal(found, k_means(points, clusters, np.random.default_rng(seed)))


def test_equal_points_make_one_cluster() -> None:
    assert set(k_means(np.tile([[1.0, 0.0]], (9, 1)), 4, np.random.default_rng(0)).tolist()) == {0}
    assert k_means(np.zeros((0, 3)), 4, np.random.default_rng(0)).shape == (0,)


def test_a_sample_is_enough() -> None:
    points = blobs([300, 300])
    found = k_means(points, 2, np.random.default_rng(0), sample=50)
    assert set(found[:300].tolist()) != set(found[300:].tolist())
    assert len(set(found[:300].tolist())) == 1
