"""Covering by balls: most others first, nothing twice, and a reach at which balls are pure."""

import numpy as np

from engine.selection.coverage import Directions
from engine.selection.prob_cover import BallCover, ball_reach

NONE = np.zeros((0, 8))


def blobs(sizes: list[int], spread: float = 0.1) -> np.ndarray:
    generator = np.random.default_rng(0)
    points = np.concatenate([10 * np.eye(8)[each] + generator.normal(0, spread, (size, 8)) for each, size in enumerate(sizes)])
    return Directions(points).of(np.arange(len(points)))


def test_the_largest_ball_comes_first_and_covers_what_it_holds() -> None:
    points = blobs([4, 12, 8])
    cover = BallCover(points, NONE, points, 0.9)
    assert cover.gains().tolist() == [4] * 4 + [12] * 12 + [8] * 8
    cover.add(7)
    assert cover.gains().tolist() == [4] * 4 + [0] * 12 + [8] * 8
    assert cover.gains(np.array([0, 7, 20])).tolist() == [4, 0, 8]


def test_what_a_label_reaches_is_covered() -> None:
    points = blobs([4, 12, 8])
    assert BallCover(points[1:], points[:1], points, 0.9).gains()[:3].tolist() == [0, 0, 0]


def test_the_reach_keeps_groups_apart_and_no_smaller_than_that() -> None:
    close, wide = (ball_reach(blobs([20, 20, 20], spread), 3, np.random.default_rng(0)) for spread in (0.1, 4.0))
    points = blobs([20, 20, 20])
    across = points[:20] @ points[20:].T
    assert across.max() < close
    assert close < wide


def test_one_group_may_be_covered_by_one_ball() -> None:
    assert ball_reach(np.tile([[1.0, 0.0]], (5, 1)), 3, np.random.default_rng(0)) == 0.05
