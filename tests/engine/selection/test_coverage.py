"""Coverage: what it measures, and that it is exact whatever the order of summation."""

import numpy as np
import pytest

from engine.selection.coverage import Directions, FacilityLocation, KCenter, far_tails, nearest


def directions(embeddings: np.ndarray) -> np.ndarray:
    return Directions(embeddings).of(np.arange(len(embeddings)))


def clusters(sizes: list[int], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centers = 10 * np.eye(len(sizes), 8)
    return np.concatenate([center + generator.normal(0, 0.1, (size, 8)) for center, size in zip(centers, sizes, strict=True)])


def test_directions_have_length_one_and_ignore_what_all_share() -> None:
    points = clusters([5, 5, 5])
    unit = directions(points)
    np.testing.assert_allclose((unit**2).sum(1), 1, atol=1e-3)
    np.testing.assert_allclose(unit, directions(points + 100), atol=1e-4)


@pytest.mark.parametrize(
    "points", [np.zeros((0, 4)), np.ones((1, 4)), np.full((3, 4), 0.1), np.zeros((3, 0))], ids=["none", "one", "equal", "flat"]
)
def test_embeddings_without_a_direction_become_zero(points: np.ndarray) -> None:
    assert not directions(points).any()
    assert directions(points).shape == points.shape


def test_facility_location_takes_one_of_each_cluster_and_the_largest_first() -> None:
    points = directions(clusters([4, 12, 8]))
    objective = FacilityLocation(points, np.zeros((0, 8)), points)
    picked = []
    for _ in range(3):
        picked.append(int(objective.gains().argmax()))
        objective.add(picked[-1])
    assert [int(np.searchsorted([4, 16, 24], row, side="right")) for row in picked] == [1, 2, 0]


def test_what_is_labelled_counts_as_covered() -> None:
    points = directions(clusters([4, 12, 8]))
    objective = FacilityLocation(points, points[5:6], points)
    assert 16 <= int(objective.gains().argmax()) < 24


def test_gains_and_single_gains_agree_to_the_last_bit_and_never_rise() -> None:
    points = directions(np.random.default_rng(1).normal(size=(300, 64)))
    objective = FacilityLocation(points, points[:3], points[::2])
    before = objective.gains()
    for row in (17, 250, 3):
        assert [objective.gains(np.array([index]))[0] for index in range(300)] == before.tolist()
        objective.add(row)
        after = objective.gains()
        assert (after <= before).all()
        assert after[row] == 0
        before = after


def test_k_center_starts_in_the_middle_and_goes_to_the_farthest() -> None:
    embeddings = np.concatenate([clusters([20]), clusters([1, 1, 20])[1:2]])
    centers = KCenter(directions(embeddings), np.zeros((0, 8)), Directions(embeddings).distance_from_mean(np.arange(21)))
    first = int(centers.gains().argmax())
    assert first < 20
    centers.add(first)
    assert centers.gains(np.array([first])) == pytest.approx(0, abs=1e-3)
    assert int(centers.gains().argmax()) == 20


def test_k_center_knows_what_is_labelled() -> None:
    embeddings = clusters([5, 5])
    points = directions(embeddings)
    assert KCenter(points[1:], points[:1], np.ones(9)).gains().argmax() >= 4


def test_far_tails_are_the_outliers() -> None:
    points = np.concatenate([clusters([98]), np.full((2, 8), 50.0)])
    distance = Directions(points).distance_from_mean(np.arange(100))
    assert np.flatnonzero(far_tails(distance, 0.02)).tolist() == [98, 99]
    assert not far_tails(distance[:49], 0.02).any()


def test_the_mean_is_that_of_the_rows_that_count() -> None:
    points = np.concatenate([clusters([50, 50]), np.full((2, 8), np.nan)])
    unit = Directions(points, np.arange(100)).of(np.array([0, 60]))
    assert unit[0] @ unit[1] == pytest.approx(-1, abs=0.01)


def test_nearest_takes_the_lower_row_of_equals() -> None:
    known = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    similarity, row = nearest(np.array([[1.0, 0.0], [0.0, 1.0]]), known)
    assert similarity.tolist() == [1, 1]
    assert row.tolist() == [1, 0]
