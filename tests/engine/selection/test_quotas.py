"""What waits once a tile is chosen."""

import numpy as np

from engine.selection.quotas import Quota, joined, near_duplicates, same_ground


def test_the_same_ground_of_the_same_scene_waits() -> None:
    windows = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [6, 0, 16, 10], [4, 0, 14, 10]], dtype=float)
    rivals = same_ground(np.array([1, 1, 1, 2]), windows, 0.5)
    assert [rivals(row).tolist() for row in range(4)] == [[1], [0, 2], [1], []]


def test_what_looks_the_same_waits() -> None:
    rivals = near_duplicates(np.array([[1.0, 0], [0.99, 0.141], [0, 1]]), 0.98)
    assert [rivals(row).tolist() for row in range(3)] == [[1], [0], []]


def test_a_group_waits_once_it_has_cost_its_share() -> None:
    quota = Quota(np.array([0, 0, 0, 1, -1, -1]), np.full(6, 10.0), 20)
    assert quota(0).tolist() == []
    assert quota(4).tolist() == quota(5).tolist() == []
    assert quota(1).tolist() == [0, 2]
    assert quota(3).tolist() == []
    assert quota(2).tolist() == []


def test_a_group_without_a_share_waits_after_its_first() -> None:
    quota = Quota(np.array([0, 0, 0]), np.full(3, 10.0), 0)
    assert quota(1).tolist() == [0, 2]
    assert quota(0).tolist() == []


def test_a_group_that_had_its_share_before_waits_from_the_start() -> None:
    groups = np.array([0, 0, 1, 2, -1])
    quota = Quota(groups, np.full(5, 10.0), 30, {0: 30.0, 1: 25.0, 7: 99.0})
    assert quota.waiting_first.tolist() == [True, True, False, False, False]
    assert quota(2).tolist() == []
    assert Quota(groups, np.full(5, 10.0), 0).waiting_first.tolist() == [True, True, True, True, False]
    assert not Quota(groups, np.full(5, 10.0), 30).waiting_first.any()


def test_rules_add_up() -> None:
    rules = joined([lambda index: np.array([index + 1, 5]), lambda index: np.array([index + 1, 7])])
    assert rules(2).tolist() == [3, 5, 7]
    assert joined([])(0).tolist() == []
