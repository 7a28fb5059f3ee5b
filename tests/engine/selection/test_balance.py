"""Balance of the classes: the first object of a class is worth more than the tenth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.selection.balance import ClassBalance, class_confidence, expected_counts
from engine.selection.detections import Detections


def test_scores_are_counted_as_probabilities() -> None:
    found = Detections(np.array([0, 0, 2]), np.zeros((3, 4)), np.array([[0.5, 0.1], [0.25, 0], [0, 1.0]]))
    np.testing.assert_allclose(expected_counts(found, 3), [[0.75, 0.1], [0, 0], [0, 1]], atol=2**-15)


def test_a_class_that_is_found_with_low_scores_or_never_is_not_trusted() -> None:
    found = Detections(
        np.zeros(4, dtype=np.int64), np.zeros((4, 4)), np.array([[1.0, 0, 0], [0.5, 0.25, 0], [0, 0.25, 0], [0.125, 0.25, 0]])
    )
    counted = np.ones(4, dtype=bool)
    assert class_confidence(found, counted).tolist() == [pytest.approx((1 + 0.25) / 1.5), 0.25, 0]
    assert class_confidence(found, np.array([False, True, False, False])).tolist() == [0.5, 0, 0]
    assert class_confidence(found.take(~counted), ~counted[:0]).tolist() == [0, 0, 0]


def test_sums_of_scores_do_not_depend_on_the_order_of_detections() -> None:
    generator = np.random.default_rng(3)
    tiles, scores = generator.integers(0, 5, 4000), generator.random((4000, 3))
    found = Detections(tiles, np.zeros((4000, 4)), scores)
    mixed = found.take(generator.permutation(4000))
    assert (expected_counts(found, 5) == expected_counts(mixed, 5)).all()
    everywhere = np.ones(4000, dtype=bool)
    assert (class_confidence(found, everywhere) == class_confidence(mixed, everywhere)).all()


def test_what_is_rare_and_what_is_wanted_is_worth_more() -> None:
    counts = np.array([[1.0, 0], [0, 1]])
    assert ClassBalance(counts, np.array([8.0, 0])).gains().tolist() == pytest.approx([3 - 8**0.5, 1])
    assert ClassBalance(counts, np.zeros(2), np.array([1.0, 3])).gains().tolist() == [1, 3]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_gains_never_rise_and_agree(seed: int) -> None:
    generator = np.random.default_rng(seed)
    balance = ClassBalance(generator.random((9, 3)) * 5, generator.integers(0, 9, 3).astype(float))
    before = balance.gains()
    for row in generator.permutation(9):
        assert [balance.gains(np.array([index]))[0] for index in range(9)] == before.tolist()
        balance.add(int(row))
        after = balance.gains()
        assert (after <= before + 1e-12).all()
        assert (after >= 0).all()
        before = after
