"""Curves side by side: crossings by hand, intervals, other prices."""

import json

import pytest

from engine.errors import NothingToDo
from engine.selection.cost import Prices
from engine.simulation.curves import Curve, compare, read_curves
from engine.simulation.picture import draw_comparison


def curve(strategy: str, seed: int, ap50: list[float], step: float = 100.0) -> Curve:
    number = range(1, len(ap50) + 1)
    acts = tuple({"verified": 2 * each, "edited": each, "drawn": 3 * each, "deleted": 0} for each in number)
    return Curve(
        strategy, seed, tuple(step * each for each in number), tuple(6 * e for e in number), tuple(5 * e for e in number), tuple(ap50), acts
    )


@pytest.mark.parametrize(("goal", "seconds"), [(0.1, 100), (0.2, 100), (0.3, 150), (0.4, 200), (0.45, 250), (0.6, None)])
def test_the_first_crossing_lies_on_the_line_between_rounds(goal, seconds):
    assert curve("random", 0, [0.2, 0.4, 0.5]).reaches(goal) == (seconds if seconds is None else pytest.approx(seconds))


def test_a_strategy_is_held_against_the_control_s_end():
    curves = [curve("random", seed, [0.2, 0.3 + seed / 100, 0.4]) for seed in range(3)]
    curves += [curve("tilehawk", seed, [0.2, 0.4, 0.5]) for seed in range(3)]
    curves += [curve("k-center", seed, [0.2, 0.25, 0.3]) for seed in range(3)]
    found = compare(curves, full_ap50=0.5)
    assert found.target == pytest.approx(0.4)
    assert found.to_target == {"random": pytest.approx(300), "tilehawk": pytest.approx(200), "k-center": None}
    assert found.ratio == {"random": pytest.approx(1), "tilehawk": pytest.approx(2 / 3), "k-center": None}
    assert found.to_share["80%"]["tilehawk"].mean == pytest.approx(200)
    assert found.to_share["90%"]["tilehawk"].seconds == pytest.approx((250, 250, 250))
    assert found.to_share["90%"]["random"].short == 3
    assert found.to_share["90%"]["random"].mean is None


def test_a_control_that_learns_nothing_more_is_counted_from_where_it_first_was_there():
    curves = [curve("random", 0, [0.2, 0.4, 0.4, 0.4]), curve("tilehawk", 0, [0.2, 0.6, 0.6, 0.6])]
    found = compare(curves)
    assert found.to_target == {"random": pytest.approx(200), "tilehawk": pytest.approx(150)}
    assert found.ratio["tilehawk"] == pytest.approx(0.75)


def test_a_strategy_is_held_against_the_control_on_the_seeds_that_both_have():
    curves = [curve("random", 0, [0.2, 0.4]), curve("random", 1, [0.4, 0.8]), curve("tilehawk", 1, [0.4, 0.9])]
    found = compare([*curves, curve("tilehawk", 2, [0.9, 0.9]), curve("k-center", 5, [0.1, 0.9])], full_ap50=1.0)
    assert found.target == pytest.approx(0.6)
    assert set(found.final) == {"random", "tilehawk"}
    assert found.final["tilehawk"] == pytest.approx(0.9)
    assert found.to_target["tilehawk"] == pytest.approx(180)
    assert found.ratio == {"random": pytest.approx(1), "tilehawk": pytest.approx(0.9)}
    assert found.to_share["80%"]["tilehawk"].seconds == (pytest.approx(180),)


def test_intervals_are_student_s():
    found = compare([curve("random", seed, [0.2, value]) for seed, value in enumerate((0.3, 0.4, 0.5))])
    low, high = found.interval["random"][-1]
    assert (low + high) / 2 == pytest.approx(0.4)
    assert (high - low) / 2 == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)


def test_without_the_control_there_is_nothing_to_compare():
    with pytest.raises(NothingToDo, match="random"):
        compare([curve("tilehawk", 0, [0.1, 0.2])])


def test_other_prices_for_the_same_visits():
    dear = curve("random", 0, [0.1, 0.2]).repriced(Prices(draw=35))
    assert dear.seconds == pytest.approx([5 * 4 + 2 * 2 + 6 + 3 * 35, 10 * 4 + 4 * 2 + 12 + 6 * 35])
    assert dear.ap50 == (0.1, 0.2)


def write(folder, made: Curve, **more):
    rounds = [
        {"seconds": made.seconds[k], "boxes": made.boxes[k], "tiles": made.tiles[k], "measured": {"ap50": made.ap50[k]}, **made.acts[k]}
        for k in range(len(made.ap50))
    ]
    document = {"strategy": made.strategy, "seed": made.seed, "rounds": rounds} | more
    (folder / f"{made.strategy}-{made.seed}.json").write_text(json.dumps(document))


@pytest.mark.parametrize(("more", "read"), [({}, False), ({"ended": False}, False), ({"ended": True}, True)])
def test_a_replay_that_was_stopped_half_way_is_not_read(tmp_path, more, read):
    whole, half = curve("random", 0, [0.2, 0.4, 0.5]), curve("tilehawk", 0, [0.2, 0.4])
    for made in (whole, half):
        write(tmp_path, made, config={"budgets": [100, 100]}, **(more if made is half else {"ended": False}))
    assert read_curves(tmp_path) == ([whole, half] if read else [whole])


def test_results_are_read_and_drawn(tmp_path):
    for strategy in ("random", "tilehawk"):
        write(tmp_path, curve(strategy, 0, [0.2, 0.4]))
    (tmp_path / "all-0.json").write_text(json.dumps({"measured": {"ap50": 0.5}}))
    curves = read_curves(tmp_path)
    assert curves == [curve("random", 0, [0.2, 0.4]), curve("tilehawk", 0, [0.2, 0.4])]
    draw_comparison(compare(curves, full_ap50=0.5), tmp_path / "curves.png", full_ap50=0.5)
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
