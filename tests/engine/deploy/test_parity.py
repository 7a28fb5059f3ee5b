"""Parity sees every difference between two answers, and no difference of order."""

import numpy as np
import pytest

from engine.deploy.parity import COMPARED_AT_LEAST, measure_parity

TILE = 64


def answers(seed=0):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 50, (2, 12, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(5, 14, corner.shape)], -1).astype(np.float32)
    return boxes, generator.uniform(0, 1, (2, 12, 2)).astype(np.float32)


def test_the_same_answers_are_equal_in_any_order():
    boxes, scores = answers()
    order = np.random.default_rng(1).permutation(12)
    parity = measure_parity((boxes, scores), (boxes[:, order], scores[:, order]), TILE)
    assert (parity.worst, parity.unmatched) == (0.0, 0)
    assert parity.detections == 2 * int((scores >= 0.05).sum())


def changed_score(boxes, scores):
    scores[1, 3] += np.where(scores[1, 3] < 0.5, 0.02, -0.02)


def changed_box(boxes, scores):
    boxes[0, 7, 2] += 0.02 * TILE


def missing(boxes, scores):
    scores[0, scores[0].max(1).argmax()] = 0.0


def one_more(boxes, scores):
    boxes[1, scores[1].max(1).argmin()] = [0, 0, 64, 64]


@pytest.mark.parametrize(
    ("change", "score", "box", "worst"),
    [
        (changed_score, 0.02, 0.0, 0.02),
        (changed_box, 0.0, 0.02, 0.02),
        (missing, 0.0, 0.0, float("inf")),
        (one_more, 0.0, 0.0, float("inf")),
    ],
)
def test_a_difference_on_either_side_is_seen(change, score, box, worst):
    ours, theirs = answers(), answers()
    change(*theirs)
    for pair in ((ours, theirs), (theirs, ours)):
        parity = measure_parity(*pair, TILE)
        assert (parity.score, parity.box, parity.worst) == pytest.approx((score, box, worst), abs=1e-6)


def test_a_model_that_is_sure_of_nothing_is_compared_by_its_best():
    boxes, scores = answers()
    parity = measure_parity((boxes, scores / 100), (boxes + 1, scores / 100), TILE)
    assert parity.detections == 2 * 2 * COMPARED_AT_LEAST
    assert parity.worst == pytest.approx(1 / TILE, rel=0.01)
