"""Strategies side by side: ratios by hand, intervals, what can be told, results that are read and drawn."""

import dataclasses
import json
import math

import pytest
from scipy import stats

from engine.errors import NothingToDo
from engine.selection.cost import Prices
from engine.simulation.comparison import compare, read_comparison
from engine.simulation.curves import read_curves
from engine.simulation.picture import draw_comparison


@pytest.fixture
def curve(fake):
    return fake("curves").curve


@pytest.fixture
def ends(fake):
    return fake("curves").ends


@pytest.fixture
def write(fake):
    return fake("curves").write


def test_a_strategy_is_held_against_the_control_s_end(curve):
    curves = [curve("random", seed, [0.2, 0.3 + seed / 100, 0.4]) for seed in range(3)]
    curves += [curve("tilehawk", seed, [0.2, 0.4, 0.5]) for seed in range(3)]
    curves += [curve("k-center", seed, [0.2, 0.25, 0.3]) for seed in range(3)]
    found = compare(curves, full_ap50=0.5, full_looks=3.0)
    assert found.target == pytest.approx(0.4)
    assert found.to_target == {"random": pytest.approx(300), "tilehawk": pytest.approx(200), "k-center": None}
    assert found.ratio == {"random": pytest.approx(1), "tilehawk": pytest.approx(2 / 3), "k-center": None}
    assert found.to_share["80%"]["tilehawk"].mean == pytest.approx(200)
    assert found.to_share["90%"]["tilehawk"].seconds == pytest.approx((250, 250, 250))
    assert found.to_share["90%"]["random"].short == 3
    assert found.to_share["90%"]["random"].mean is None


def test_some_seeds_that_got_there_have_no_mean(curve):
    curves = [curve("random", seed, [0.2, 0.4]) for seed in range(3)]
    curves += [curve("tilehawk", seed, [0.2, last]) for seed, last in enumerate((0.5, 0.45, 0.3))]
    reached = compare(curves, full_ap50=0.5, full_looks=3.0).to_share["80%"]
    assert len(reached["tilehawk"].seconds) == 2
    assert (reached["tilehawk"].mean, reached["tilehawk"].interval, reached["tilehawk"].short) == (None, None, 1)
    assert (reached["random"].mean, reached["random"].short) == (pytest.approx(200), 0)


def test_a_strategy_is_best_only_where_its_interval_lies_below_the_control(ends):
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


def test_a_strategy_that_verifies_gains_the_more_the_dearer_a_drawn_box(curve):
    verified = curve("tilehawk", 0, [0.2, 0.4])
    verified = dataclasses.replace(verified, acts=tuple({"verified": 6 * n, "edited": 0, "drawn": 0, "deleted": 0} for n in (1, 2)))
    drawn = curve("random", 0, [0.2, 0.4])
    drawn = dataclasses.replace(drawn, acts=tuple({"verified": 0, "edited": 0, "drawn": 6 * n, "deleted": 0} for n in (1, 2)))
    ratios = compare([drawn, verified], prices=Prices(open=1.0, verify=3.0)).ratio_at
    assert list(ratios) == ["7 s a box", "15 s a box", "35 s a box"]
    for seconds, (at, found) in zip((7, 15, 35), ratios.items(), strict=True):
        assert found["tilehawk"] == pytest.approx((5 + 18) / (5 + 6 * seconds)), at
        assert found["random"] == pytest.approx(1)


def test_a_control_that_learns_nothing_more_is_counted_from_where_it_first_was_there(curve):
    curves = [curve("random", 0, [0.2, 0.4, 0.4, 0.4]), curve("tilehawk", 0, [0.2, 0.6, 0.6, 0.6])]
    found = compare(curves)
    assert found.to_target == {"random": pytest.approx(200), "tilehawk": pytest.approx(150)}
    assert found.ratio["tilehawk"] == pytest.approx(0.75)


def test_a_strategy_is_held_against_the_control_on_the_seeds_that_both_have(curve):
    curves = [curve("random", 0, [0.2, 0.4]), curve("random", 1, [0.4, 0.8]), curve("tilehawk", 1, [0.4, 0.9])]
    found = compare([*curves, curve("tilehawk", 2, [0.9, 0.9]), curve("k-center", 5, [0.1, 0.9])], full_ap50=1.0, full_looks=4)
    assert found.target == pytest.approx(0.6)
    assert set(found.final) == {"random", "tilehawk"}
    assert found.final["tilehawk"] == pytest.approx(0.9)
    assert found.to_target["tilehawk"] == pytest.approx(180)
    assert found.ratio == {"random": pytest.approx(1), "tilehawk": pytest.approx(0.9)}
    assert found.to_share["80%"]["tilehawk"].seconds == (pytest.approx(180),)


def test_intervals_are_student_s(curve):
    found = compare([curve("random", seed, [0.2, value]) for seed, value in enumerate((0.3, 0.4, 0.5))])
    low, high = found.axes["seconds"].interval["random"][-1]
    assert (low + high) / 2 == pytest.approx(0.4)
    assert (high - low) / 2 == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)


def test_without_the_control_there_is_nothing_to_compare(curve):
    with pytest.raises(NothingToDo, match="random"):
        compare([curve("tilehawk", 0, [0.1, 0.2])])


def test_the_prices_of_the_replays_are_those_of_the_comparison(curve, write, tmp_path):
    prices = Prices(open=40.0)
    for strategy in ("random", "tilehawk"):
        write(tmp_path, curve(strategy, 0, [0.2, 0.4]), config={"budgets": [1], "selection": {"prices": prices.model_dump()}})
    assert read_comparison(tmp_path) == compare(read_curves(tmp_path), prices=prices)


def test_results_are_read_and_drawn(curve, write, tmp_path):
    for strategy in ("random", "tilehawk"):
        write(tmp_path, curve(strategy, 0, [0.2, 0.4]))
    (tmp_path / "all-0.json").write_text(json.dumps({"measured": {"ap50": 0.5}, "looks": 3.0}))
    curves = read_curves(tmp_path)
    assert curves == [curve("random", 0, [0.2, 0.4]), curve("tilehawk", 0, [0.2, 0.4])]
    assert read_comparison(tmp_path) == compare(curves, full_ap50=0.5, full_looks=3.0)
    draw_comparison(compare(curves, full_ap50=0.5), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_strategy_whose_mean_curve_never_gets_there_is_not_the_best(curve):
    control = [curve("random", seed, [0.2, 0.25, 0.3, 0.4]) for seed in range(6)]
    either = [curve("k-center", seed, [0.2, 0.41, 0.3, 0.3] if seed % 2 else [0.2, 0.3, 0.41, 0.3]) for seed in range(6)]
    found = compare([*control, *either])
    assert found.ratio["k-center"] is None
    assert found.ratio_interval["k-center"][1] < 1
    assert found.best is None


def test_the_more_strategies_are_tried_the_clearer_one_has_to_be(ends):
    control = ends("random", [200.0, 210, 190, 205])
    likely, clear = ends("tilehawk", [150.0, 190, 160, 185]), ends("ppal", [180.0, 181, 179, 180])
    others = [each for name in ("k-center", "typiclust") for each in ends(name, [150.0, 290, 160, 250])]
    alone = compare([*control, *likely])
    assert alone.best == "tilehawk"
    assert alone.p_value["random"] is None
    assert alone.p_value["tilehawk"] == pytest.approx(
        stats.ttest_1samp([math.log(r) for r in (150 / 200, 190 / 210, 160 / 190, 185 / 205)], 0).pvalue
    )
    assert compare([*control, *likely, *others]).best is None
    both = compare([*control, *likely, *clear, *others])
    single = {
        name: compare([*control, *runs]).p_value[name] for name, runs in (("tilehawk", likely), ("ppal", clear), ("k-center", others[:4]))
    }
    assert both.best == "ppal", "though tilehawk is quicker"
    assert both.p_value["ppal"] == pytest.approx(4 * single["ppal"])
    assert both.p_value["tilehawk"] == pytest.approx(3 * single["tilehawk"])
    assert both.p_value["k-center"] == pytest.approx(min(1.0, 2 * single["k-center"])) == both.p_value["typiclust"]
    assert both.ratio_interval["tilehawk"] == alone.ratio_interval["tilehawk"]


def test_a_comparison_without_a_number_counts_too(ends):
    control, likely = ends("random", [200.0, 210, 190, 205]), ends("tilehawk", [150.0, 190, 160, 185])
    short = [dataclasses.replace(each, ap50=(0.2, 0.3)) for each in ends("k-center", [150.0, 190, 160, 185])]
    found = compare([*control, *likely, *short])
    assert found.p_value["k-center"] is None
    assert found.p_value["tilehawk"] == pytest.approx(2 * compare([*control, *likely]).p_value["tilehawk"])


def test_seeds_that_all_say_the_same_are_told(ends):
    assert compare([*ends("random", [200.0, 200.0]), *ends("ppal", [100.0, 100.0])]).p_value["ppal"] == 0
    assert compare([*ends("random", [200.0, 200.0]), *ends("ppal", [200.0, 200.0])]).p_value["ppal"] == 1


@pytest.mark.parametrize(
    ("looks", "why"), [([3.0, 2.9], "each of them 2.9 times"), ([None], "nobody knows how often"), ([4.0, None], "nobody knows")]
)
def test_shares_of_what_all_labels_give_need_a_model_that_looked_at_them(curve, write, tmp_path, looks, why):
    write(tmp_path, curve("random", 0, [0.2, 0.4]))
    for seed, each in enumerate(looks):
        (tmp_path / f"all-{seed}.json").write_text(json.dumps({"measured": {"ap50": 0.5}} | ({} if each is None else {"looks": each})))
    found = read_comparison(tmp_path)
    assert (found.full_ap50, found.to_share) == (0.5, {})
    assert why in found.shares_left_out


def test_without_a_model_of_all_labels_there_is_nothing_to_leave_out(curve):
    assert compare([curve("random", 0, [0.2, 0.4])]).shares_left_out is None


def test_seconds_boxes_and_tiles_are_told_whatever_budgets_are_counted_in(curve):
    sparse = dataclasses.replace(curve("k-center", 0, [0.2, 0.4]), tiles=(20, 40), boxes=(3, 6))
    found = compare([curve("random", 0, [0.2, 0.4]), sparse], unit="tiles")
    assert {unit: axis.ratio["k-center"] for unit, axis in found.axes.items()} == pytest.approx({"seconds": 1, "boxes": 0.5, "tiles": 4})
    assert found.axes["tiles"].to_target == {"random": pytest.approx(10), "k-center": pytest.approx(40)}
    assert (found.axes["tiles"].grid[0], found.axes["tiles"].grid[-1]) == (5, 40)
    assert found.axes["tiles"].mean["random"][0] == pytest.approx(0.2)
    assert found.axes["tiles"].mean["random"][-1] is None


def test_a_control_that_spent_nothing_has_no_ratio(curve):
    nothing = [dataclasses.replace(curve(name, 0, [0.2, 0.1]), boxes=(0, 3)) for name in ("random", "ppal")]
    assert compare(nothing).axes["boxes"].ratio == {"random": None, "ppal": None}


def test_the_unit_of_budgets_is_that_of_the_replays_and_of_the_picture(curve, write, tmp_path):
    for strategy in ("random", "tilehawk"):
        write(tmp_path, curve(strategy, 0, [0.2, 0.4]), config={"budgets": [1], "unit": "tiles"})
    found = read_comparison(tmp_path)
    assert found.unit == "tiles"
    assert found == compare(read_curves(tmp_path), unit="tiles")
    draw_comparison(found, tmp_path / "tiles.png")
    draw_comparison(dataclasses.replace(found, unit="seconds"), tmp_path / "hours.png")
    assert (tmp_path / "tiles.png").read_bytes() != (tmp_path / "hours.png").read_bytes()
