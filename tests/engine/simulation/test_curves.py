"""Learning curves: crossings by hand, other prices, files that are read."""

import pytest

from engine.selection.cost import Prices
from engine.simulation.curves import read_curves


@pytest.fixture
def curve(fake):
    return fake("curves").curve


@pytest.fixture
def write(fake):
    return fake("curves").write


@pytest.mark.parametrize(("goal", "seconds"), [(0.1, 100), (0.2, 100), (0.3, 150), (0.4, 200), (0.45, 250), (0.6, None)])
def test_the_first_crossing_lies_on_the_line_between_rounds(curve, goal, seconds):
    made = curve("random", 0, [0.2, 0.4, 0.5])
    assert made.reaches(goal) == (seconds if seconds is None else pytest.approx(seconds))
    assert made.reaches(goal, "tiles") == (seconds if seconds is None else pytest.approx(seconds / 100 * 5))


def test_other_prices_for_the_same_visits(curve):
    dear = curve("random", 0, [0.1, 0.2]).repriced(Prices(draw=35))
    assert dear.seconds == pytest.approx([5 * 4 + 2 * 2 + 6 + 3 * 35, 10 * 4 + 4 * 2 + 12 + 6 * 35])
    assert dear.ap50 == (0.1, 0.2)


@pytest.mark.parametrize(("more", "read"), [({}, False), ({"ended": False}, False), ({"ended": True}, True)])
def test_a_replay_that_was_stopped_half_way_is_not_read(curve, write, tmp_path, more, read):
    whole, half = curve("random", 0, [0.2, 0.4, 0.5]), curve("tilehawk", 0, [0.2, 0.4])
    for made in (whole, half):
        write(tmp_path, made, config={"budgets": [100, 100]}, **(more if made is half else {"ended": False}))
    assert read_curves(tmp_path) == ([whole, half] if read else [whole])
