"""Counting work: what the script does with pauses is seen in tests/browser; here what is made of its count."""

import pytest

from app.pages.working import counted, seconds_worked


@pytest.mark.parametrize(
    ("count", "before", "elapsed", "seconds"),
    [
        (20.0, 5.0, 60.0, 15.0),
        (20.0, 5.0, 12.0, 12.0),
        (2.0, 5.0, 60.0, 0.0),
        (None, 5.0, 60.0, 60.0),
        (float("nan"), 5.0, 60.0, 60.0),
        (float("inf"), 5.0, 60.0, 60.0),
    ],
)
def test_counts_are_held_to_the_clock(count, before, elapsed, seconds):
    assert seconds_worked(count, before, elapsed) == seconds


def test_the_script_knows_the_longest_pause():
    assert "/ 1000, 12.5)" in counted(12.5)
