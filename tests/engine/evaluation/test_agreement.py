"""Several annotators on one tile: agreement between 0 and 1, and boxes that do not hang on who came first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.boxes import Boxes
from engine.evaluation.agreement import pairwise_f1, together

HALF = 0.5


def boxes(*rows: tuple[float, ...], labels: list[int] | None = None) -> Boxes:
    return Boxes(np.array(rows, dtype=float).reshape(-1, 4), np.array(labels if labels is not None else [0] * len(rows), dtype=int))


A, NEAR_A, FAR = (10, 10, 20, 20), (11, 10, 21, 20), (40, 40, 50, 50)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ([boxes(A)], None),
        ([boxes(), boxes()], 1.0),
        ([boxes(A), boxes()], 0.0),
        ([boxes(A), boxes(NEAR_A)], 1.0),
        ([boxes(A), boxes(A, labels=[1])], 0.0),
        ([boxes(A, FAR), boxes(A)], 2 / 3),
        ([boxes(A), boxes(A), boxes()], 1 / 3),
        ([boxes(A, NEAR_A), boxes(A)], 2 / 3),
    ],
)
def test_agreement_of_pairs(drawn, expected):
    found = pairwise_f1(drawn, HALF)
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.guarantee("G25")
@pytest.mark.parametrize(
    ("drawn", "majority", "everything"),
    [
        ([boxes(A)], [A], [A]),
        ([boxes(), boxes()], [], []),
        ([boxes(A), boxes()], [], [A]),
        ([boxes(A), boxes(NEAR_A)], [(10.5, 10, 20.5, 20)], [(10.5, 10, 20.5, 20)]),
        ([boxes(A), boxes(FAR)], [], [A, FAR]),
        ([boxes(A, FAR), boxes(A), boxes(A)], [A], [A, FAR]),
        ([boxes(A), boxes(A, labels=[1]), boxes(A)], [A], [A, A]),
        ([boxes(A), boxes(A), boxes(), boxes()], [], [A]),
        ([boxes(A, NEAR_A), boxes(A, NEAR_A)], [A, NEAR_A], [A, NEAR_A]),
        ([boxes((0, 0, 10, 10)), boxes((3, 0, 13, 10)), boxes((6, 0, 16, 10))], [(1.5, 0, 11.5, 10)], [(1.5, 0, 11.5, 10), (6, 0, 16, 10)]),
    ],
    ids=["alone", "both empty", "one of two", "both", "two objects", "one extra", "another class", "half is no majority", "close", "chain"],
)
def test_what_annotators_say_together(drawn, majority, everything):
    assert together(drawn, HALF, majority=True).xyxy.tolist() == [list(map(float, box)) for box in majority]
    assert together(drawn, HALF, majority=False).xyxy.tolist() == [list(map(float, box)) for box in everything]


@st.composite
def annotators(draw: st.DrawFn) -> list[Boxes]:
    """Two to four people who draw some of up to five objects, each a little off."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner = generator.uniform(0, 80, (draw(st.integers(0, 5)), 2))
    objects = np.hstack([corner, corner + generator.uniform(8, 20, corner.shape)])
    labels = generator.integers(0, 2, len(objects))
    people = []
    for _ in range(draw(st.integers(2, 4))):
        seen = generator.random(len(objects)) < 0.7
        people.append(Boxes(objects[seen] + generator.uniform(-1, 1, (int(seen.sum()), 4)), labels[seen]))
    return people


def as_set(found: Boxes) -> list[list[float]]:
    return sorted([*box, label] for box, label in zip(found.xyxy.round(6).tolist(), found.labels.tolist(), strict=True))


@given(annotators())
def test_the_order_of_the_annotators_changes_nothing_and_a_majority_is_part_of_everything(drawn):
    for majority in (True, False):
        assert as_set(together(drawn, HALF, majority=majority)) == as_set(together(drawn[::-1], HALF, majority=majority))
    everything = as_set(together(drawn, HALF, majority=False))
    assert all(box in everything for box in as_set(together(drawn, HALF, majority=True)))
    assert 0 <= pairwise_f1(drawn, HALF) <= 1


@given(annotators(), st.integers(2, 4))
def test_people_who_drew_the_same_are_one_person(drawn, times):
    assert as_set(together([drawn[0]] * times, HALF, majority=True)) == as_set(drawn[0])
    assert pairwise_f1([drawn[0]] * times, HALF) == 1.0
