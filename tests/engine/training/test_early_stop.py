"""Looks at the dev tiles."""

import math

import pytest

from engine.errors import BadInput
from engine.training.early_stop import DevHistory


def test_looks_are_due_at_every_multiple_and_at_the_end():
    history = DevHistory(every=10, patience=0)
    steps = [(seen, seen + 4) for seen in range(0, 28, 4)]
    assert [after for before, after in steps if history.due(before, after, 28)] == [12, 20, 28]
    assert not any(DevHistory(every=0, patience=0).due(before, after, 28) for before, after in steps)


@pytest.mark.parametrize(
    ("values", "patience", "best", "exhausted"),
    [
        ([0.1, 0.2, 0.15], 2, [True, True, False], [False, False, False]),
        ([0.2, 0.1, 0.2, 0.3], 2, [True, False, False, True], [False, False, True, False]),
        ([0.2, 0.1, 0.1], 0, [True, False, False], [False, False, False]),
        ([0.0, 0.0], 1, [True, False], [False, True]),
    ],
)
def test_the_best_is_the_first_of_equals_and_patience_counts_from_it(values, patience, best, exhausted):
    history = DevHistory(every=1, patience=patience)
    found = [(history.add(seen, value), history.exhausted) for seen, value in enumerate(values)]
    assert found == list(zip(best, exhausted, strict=True))
    assert history.best == max(values)


def test_an_ap_of_nothing_is_refused():
    with pytest.raises(BadInput, match="dev AP is nan"):
        DevHistory(every=1, patience=1).add(4, math.nan)
