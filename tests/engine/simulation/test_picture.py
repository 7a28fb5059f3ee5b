"""Pictures of strategies side by side."""

import pytest

from engine.simulation.comparison import compare
from engine.simulation.picture import draw_seeds, shown_range


@pytest.fixture
def curve(fake):
    return fake("curves").curve


def test_intervals_of_few_seeds_do_not_push_the_curves_out_of_sight(curve):
    curves = [curve(name, seed, [0.25 + seed / 5, 0.5]) for name in ("random", "tilehawk") for seed in range(2)]
    found = compare(curves)
    (low, high), *_ = found.axes["seconds"].interval["random"]
    assert low < 0
    assert high > 1
    assert shown_range(found) == pytest.approx((0.275, 0.575))


@pytest.mark.parametrize(("ap50", "expected"), [([0.01, 0.9], (0.0, 1.0)), ([0.5, 0.5], (0.45, 0.55))])
def test_no_ap50_is_shown_that_cannot_be_and_flat_curves_have_room(curve, ap50, expected):
    assert shown_range(compare([curve("random", 0, ap50)])) == pytest.approx(expected)


def test_what_all_labels_give_is_in_sight(curve):
    assert shown_range(compare([curve("random", 0, [0.2, 0.4])], full_ap50=0.8))[1] > 0.8


def test_seeds_of_a_round_are_drawn_though_some_have_fewer_rounds(curve, tmp_path):
    curves = [curve("random", seed, [0.2, 0.3 + seed / 100, 0.4][: 3 - seed % 2]) for seed in range(4)]
    draw_seeds([*curves, curve("ppal", 0, [0.2, 0.5])], tmp_path / "seeds.png")
    assert (tmp_path / "seeds.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
