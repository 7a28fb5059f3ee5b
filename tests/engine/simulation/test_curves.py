"""Curves side by side: crossings by hand, intervals, other prices."""

import dataclasses
import json

import pytest

from engine.errors import NothingToDo
from engine.selection.cost import Prices
from engine.simulation.curves import Curve, compare, read_comparison, read_curves
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


def test_some_seeds_that_got_there_have_no_mean():
    curves = [curve("random", seed, [0.2, 0.4]) for seed in range(3)]
    curves += [curve("tilehawk", seed, [0.2, last]) for seed, last in enumerate((0.5, 0.45, 0.3))]
    reached = compare(curves, full_ap50=0.5).to_share["80%"]
    assert len(reached["tilehawk"].seconds) == 2
    assert (reached["tilehawk"].mean, reached["tilehawk"].interval, reached["tilehawk"].short) == (None, None, 1)
    assert (reached["random"].mean, reached["random"].short) == (pytest.approx(200), 0)


def ends(strategy: str, seconds: list[float], rise: float = 0.2) -> list[Curve]:
    """A seed each, at ``rise`` above the start of 0.2 after those seconds."""
    return [dataclasses.replace(curve(strategy, seed, [0.2, 0.2 + rise]), seconds=(0.0, end)) for seed, end in enumerate(seconds)]


def test_a_strategy_is_best_only_where_its_interval_lies_below_the_control():
    control = ends("random", [200.0, 210, 190])
    clear, lucky, half = ends("tilehawk", [150.0, 156, 146]), ends("k-center", [90.0, 150, 230]), ends("ppal", [100.0, 99, 98])
    half[2] = dataclasses.replace(half[2], ap50=(0.2, 0.3))
    found = compare([*control, *clear, *lucky, *half])
    assert found.ratio["k-center"] < 1
    assert found.ratio["tilehawk"] < 1
    low, high = found.ratio_interval["tilehawk"]
    assert low < 0.75 < high < 1 < found.ratio_interval["k-center"][1]
    assert found.ratio_interval["ppal"] is found.ratio_interval["random"] is None
    assert found.best == "tilehawk"
    assert compare([*control, *lucky]).best is None
    assert compare([control[0], clear[0]]).best is None, "one seed says nothing"
    assert compare(control).best is None


def test_a_strategy_that_verifies_gains_the_more_the_dearer_a_drawn_box():
    verified = curve("tilehawk", 0, [0.2, 0.4])
    verified = dataclasses.replace(verified, acts=tuple({"verified": 6 * n, "edited": 0, "drawn": 0, "deleted": 0} for n in (1, 2)))
    drawn = curve("random", 0, [0.2, 0.4])
    drawn = dataclasses.replace(drawn, acts=tuple({"verified": 0, "edited": 0, "drawn": 6 * n, "deleted": 0} for n in (1, 2)))
    ratios = compare([drawn, verified], prices=Prices(open=1.0, verify=3.0)).ratio_at
    assert list(ratios) == ["7 s a box", "15 s a box", "35 s a box"]
    for seconds, (at, found) in zip((7, 15, 35), ratios.items(), strict=True):
        assert found["tilehawk"] == pytest.approx((5 + 18) / (5 + 6 * seconds)), at
        assert found["random"] == pytest.approx(1)


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


def test_the_prices_of_the_replays_are_those_of_the_comparison(tmp_path):
    prices = Prices(open=40.0)
    for strategy in ("random", "tilehawk"):
        write(tmp_path, curve(strategy, 0, [0.2, 0.4]), config={"budgets": [1], "selection": {"prices": prices.model_dump()}})
    assert read_comparison(tmp_path) == compare(read_curves(tmp_path), prices=prices)


def test_results_are_read_and_drawn(tmp_path):
    for strategy in ("random", "tilehawk"):
        write(tmp_path, curve(strategy, 0, [0.2, 0.4]))
    (tmp_path / "all-0.json").write_text(json.dumps({"measured": {"ap50": 0.5}}))
    curves = read_curves(tmp_path)
    assert curves == [curve("random", 0, [0.2, 0.4]), curve("tilehawk", 0, [0.2, 0.4])]
    assert read_comparison(tmp_path) == compare(curves, full_ap50=0.5)
    draw_comparison(compare(curves, full_ap50=0.5), tmp_path / "curves.png", full_ap50=0.5)
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
