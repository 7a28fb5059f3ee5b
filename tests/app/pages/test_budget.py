"""What the budget page does, without a browser."""

from __future__ import annotations

import base64
import os
import re

import pytest

from app.pages import budget
from app.pages.budget import HOURS, MONEY
from app.pages.context import PageContext
from app.pages.spending import money
from app.settings import Settings
from app.workflows.rounds import RoundConfig
from engine.catalog.annotations import set_label_set
from engine.catalog.counterfactual import keep_fall_back
from engine.catalog.rounds import ChosenTile, add_round, get_round, keep_left_out, keep_why_cold, round_tiles
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.errors import UsageError
from engine.files import write_json
from engine.stages.audit import AuditConfig
from engine.stages.forecast import ForecastConfig, forecast
from engine.stages.simulate import SimulateConfig

RATE = 36.0
OUTPUTS = ["slider", "outlook", "wanted", "number", "cards", "maps", "rounds", "simulation", "doubtful"]


@pytest.fixture
def spent(tmp_path, write_picture, fake):
    """Two annotated and measured rounds, and one that waits."""
    with Workspace.create(tmp_path / "workspace") as workspace:
        fake("budgeted").two_rounds(workspace, tmp_path / "imagery", write_picture)
        yield PageContext(workspace, fake("jobs").FakeJobs(), Settings(hourly_rate=RATE, currency="$"))


def page_of(context, *, unit=HOURS, amount=1.0, rate=RATE):
    return dict(zip(OUTPUTS, budget.Actions(context).refresh(unit, amount, rate), strict=True))


def test_a_new_workspace_says_what_a_forecast_needs(context):
    page = page_of(context)
    assert "cannot be foretold yet" in page["outlook"]
    assert "measurements at two amounts of labels" in page["outlook"]
    assert "tilehawk retrain" in page["outlook"]
    assert page["number"]["choices"] == page["wanted"]["choices"] == []
    assert "No round yet" in page["cards"]
    assert "No simulation yet" in page["simulation"]
    assert budget.Actions(context).draw(HOURS, 1.0, RATE) == ""


def test_the_numbers_are_those_of_the_stage(spent):
    said = budget.Actions(spent).look(MONEY, 1.8, RATE)
    report = forecast(spent.workspace, ForecastConfig(budget_money=1.8, hourly_rate=RATE, currency="$", picture=False))
    bought = report.budget
    assert 0 < bought.tiles < report.tiles_left
    for number in (f"{bought.tiles:,}", f"{bought.boxes:,}", f"{bought.ap50:.3f}", "1.80 $", f"+{bought.next_gain:.3f}"):
        assert f"<strong>{number}</strong>" in said
    assert f"{bought.low:.3f} to {bought.high:.3f} with 80%" in said
    assert report.advice in said
    assert 0 < bought.next_money < 1000
    assert f"{money(bought.next_money, '$')} beyond that add" in said


def test_a_slider_move_reads_nothing_anew(spent):
    actions = budget.Actions(spent)
    before = actions.look(HOURS, 0.05, RATE)
    with spent.workspace.session() as session:
        get_round(session, 1).budget_seconds = 1.0
    assert actions.look(HOURS, 0.05, RATE) == before
    assert actions.look(HOURS, 0.1, RATE) != before


def test_the_slider_ends_with_the_tiles_and_counts_in_both_units(spent):
    actions = budget.Actions(spent)
    hours = page_of(spent, amount=1000.0)["slider"]
    report = forecast(spent.workspace, ForecastConfig(hourly_rate=RATE, picture=False))
    assert hours["value"] == pytest.approx(hours["maximum"])
    assert hours["maximum"] == pytest.approx(report.tiles_left / report.rates.tiles_per_hour, abs=hours["step"])
    money, said = actions.switch(MONEY, 0.1, RATE)
    assert money["value"] == pytest.approx(3.6)
    assert "in $" in money["label"]
    assert said == actions.look(HOURS, 0.1, RATE)
    back, _ = actions.switch(HOURS, money["value"], RATE)
    assert back["value"] == pytest.approx(0.1)
    dearer, _ = actions.reprice(MONEY, 3.6, 2 * RATE)
    assert dearer["maximum"] == pytest.approx(2 * money["maximum"], rel=0.05)


def test_what_is_said_is_what_the_slider_shows(spent):
    actions = budget.Actions(spent)
    for amount in (1e-6, 0.0777777, 1e6):
        slider, said = actions.switch(MONEY, amount, RATE)
        assert slider["value"] != amount * RATE
        assert said == actions.look(MONEY, slider["value"], RATE)
        slider, said = actions.reprice(HOURS, amount, 2 * RATE)
        assert slider["value"] != amount
        assert said == actions.look(HOURS, slider["value"], 2 * RATE)


@pytest.mark.parametrize(
    ("amount", "rate"), [(0.0, RATE), (None, RATE), (float("nan"), RATE), (1.0, 0.0), (1.0, None), (1.0, float("inf"))]
)
def test_impossible_amounts_are_refused(spent, amount, rate):
    actions = budget.Actions(spent)
    with pytest.raises(UsageError):
        actions.look(HOURS, amount, rate)
    with pytest.raises(UsageError):
        actions.choose(HOURS, amount, rate, "tilehawk", [], True)
    assert not spent.jobs.queued


def test_a_choice_is_queued_in_the_unit_that_was_chosen(spent):
    actions = budget.Actions(spent)
    actions.choose(HOURS, 0.5, RATE, "k-center", [], False)
    actions.choose(MONEY, 9.0, RATE, "tilehawk", ["car"], True)
    by_hours, by_money = (RoundConfig.from_mapping(job.config) for job in spent.jobs.queued)
    assert [(job.verb, job.config["annotate"]) for job in spent.jobs.queued] == [("round", "browser")] * 2
    assert (by_hours.seconds, by_hours.strategy, by_hours.wanted_classes, by_hours.fall_back) == (1800.0, "k-center", (), False)
    assert by_money.fall_back
    assert (by_money.seconds, by_money.hourly_rate, by_money.currency, by_money.wanted_classes) == (900.0, RATE, "$", ("car",))


def test_wanted_classes_are_for_the_strategy_that_weighs_them(spent):
    actions = budget.Actions(spent)
    assert actions.weigh("tilehawk")["visible"]
    assert (actions.weigh("k-center")["visible"], actions.weigh("k-center")["value"]) == (False, [])
    with pytest.raises(UsageError, match=r"wanted classes and the strategy k-center.*tilehawk"):
        actions.choose(HOURS, 0.5, RATE, "k-center", ["car"], True)
    assert not spent.jobs.queued


def test_a_round_without_the_newest_detector_says_why(spent):
    why = "the predictions 'a' of the newest detector <b>lack</b> 2 of 9 tiles: they are chosen by their embeddings alone"
    with spent.workspace.session() as session:
        row = get_round(session, 3)
        keep_why_cold(row, why)
        for link in round_tiles(session, row):
            link.reasons = {**link.reasons, "audit": False}
    cards = page_of(spent)["cards"]
    assert "The predictions &#x27;a&#x27; of the newest detector &lt;b&gt;lack&lt;/b&gt; 2 of 9 tiles" in cards
    assert "drawn at random" not in cards


def test_tiles_are_cards_with_reason_price_marks_and_a_way_to_review(spent):
    with spent.workspace.session() as session:
        link, other, *_ = round_tiles(session, get_round(session, 3))
        link.reasons = {**link.reasons, "why": "<b>new</b> ground", "audit": True}
        other.reasons = {}
        seconds = link.reasons["seconds"]
    cards = page_of(spent)["cards"]
    assert f'href="/review?tile={link.tile_id}"' in cards
    assert "&lt;b&gt;new&lt;/b&gt; ground" in cards
    assert f"P50 {seconds['p50']:.0f} s, P90 {seconds['p90']:.0f} s" in cards
    assert "<em>drawn at random</em>" in cards
    assert "expected: 1 × car, 2 × &lt;b&gt;ship&lt;/b&gt;" in cards
    assert "No reason was kept" in cards
    annotated, maps = budget.Actions(spent).show(1)
    assert annotated.count("<em>looked at</em>") == annotated.count("; measured ") > 0
    assert "round=1" in maps


def test_every_scene_that_cost_something_has_a_map(spent):
    maps = page_of(spent)["maps"]
    assert re.search(r"/spending/\d+\.png\?round=3", maps)
    assert "linear-gradient" in maps
    assert "Tiles of round 3 are clear" in maps


def test_the_rounds_stand_with_what_they_were_to_cost_and_did(spent):
    with spent.workspace.session() as session:
        keep_fall_back(get_round(session, 2), "choosing <b>did</b> not pay")
        measured = get_round(session, 1).measured_seconds
    rounds = page_of(spent)["rounds"]
    assert rounds.count("<tr>") == 4
    assert "0.250" in rounds
    assert "0.400" in rounds
    assert f"{measured:.0f} s</td>" in rounds or f"{measured / 60:.0f} min</td>" in rounds
    assert "€ foretold" in rounds, "in what it was ranked with"
    assert "tilehawk, fell back" in rounds
    assert "Round 2 fell back on chance: choosing &lt;b&gt;did&lt;/b&gt; not pay." in rounds


def test_a_round_says_how_many_tiles_waited_and_that_nothing_was_drawn_at_random(spent):
    with spent.workspace.session() as session:
        row = get_round(session, 3)
        keep_left_out(row, 7)
        assert row.strategy == "tilehawk"
        for link in round_tiles(session, row):
            link.reasons = {**link.reasons, "audit": False}
    cards = page_of(spent)["cards"]
    assert "7 tiles were not up for choice, for rounds before wait with them." in cards
    assert "none drawn at random, to hold the others against" in cards


def test_a_gap_to_chance_that_two_rounds_give_together_says_which(spent):
    with spent.workspace.session() as session:
        links = round_tiles(session, get_round(session, 3))
        record = {link.tile_id for number in (1, 2, 3) for link in round_tiles(session, get_round(session, number))}
        others = sorted(record - {link.tile_id for link in links})
        for tiles in (others[:25], others[25:]):
            chosen = [ChosenTile(tile, 1.0, 20.0, {"why": "", "audit": place % 2 == 0}) for place, tile in enumerate(tiles)]
            add_round(session, budget_seconds=120, strategy="tilehawk", seed=0, chosen=chosen)
        for place, tile in enumerate(others):
            record_visit(session, MeasuredVisit(tile, "ana", "browser", 20.0, 0, 0, 1 + place % 2, 0))
    assert ", rounds 4 to 5</td>" in page_of(spent)["rounds"]


def test_the_pictures_are_drawn_where_something_may_be_written(spent):
    actions, reports = budget.Actions(spent), spent.workspace.reports
    watcher = budget.Actions(PageContext(spent.workspace, spent.jobs, Settings(), lambda: "another app has it"))
    assert "<img" not in watcher.hold()
    assert not list(reports.glob("*.png"))
    assert "/reports/costs.png?drawn=" in actions.hold()
    assert "median error of a round" in actions.hold().lower()


def test_every_visitor_sees_the_curve_of_their_own_budget(spent):
    actions = budget.Actions(spent)
    watcher = budget.Actions(PageContext(spent.workspace, spent.jobs, Settings(), lambda: "another app has it"))
    mine, theirs = actions.draw(HOURS, 0.1, RATE), watcher.draw(HOURS, 0.2, RATE)
    for shown in (mine, theirs):
        encoded = re.search(r'src="data:image/png;base64,([^"]+)"', shown)
        assert encoded
        assert base64.b64decode(encoded[1]).startswith(b"\x89PNG")
    assert mine != theirs
    assert not (spent.workspace.reports / "forecast.png").exists()


def test_nothing_to_hold_against_is_said(context):
    assert "No visit to a tile was timed yet" in budget.Actions(context).hold()


def test_the_newest_simulation_is_shown_and_one_is_queued(spent):
    folder = spent.workspace.reports / "simulations" / "0a"
    for strategy, last in (("random", 0.4), ("tilehawk", 0.6)):
        acts = {"verified": 0, "edited": 0, "drawn": 1, "deleted": 0}
        rounds = [{"seconds": 100.0 * (n + 1), "boxes": n, "tiles": n, "measured": {"ap50": last * n}, **acts} for n in range(2)]
        write_json(folder / f"{strategy}-0.json", {"strategy": strategy, "seed": 0, "rounds": rounds})
    (folder / "curves.png").write_bytes(b"png")
    os.utime(folder / "curves.png", ns=(7, 7))
    shown = page_of(spent)["simulation"]
    assert shown.index("tilehawk") < shown.index("<td>random")
    assert "<td>83%</td>" in shown
    assert "No strategy can be told from chance by these seeds" in shown
    assert "Of random&#x27;s time at 35 s a box" in shown
    assert "of all labels" not in shown
    assert "/simulations/0a.png?drawn=7" in shown
    assert "seeds.png" not in shown
    (folder / "seeds.png").write_bytes(b"png")
    os.utime(folder / "seeds.png", ns=(8, 8))
    assert "/simulations/0a/seeds.png?drawn=8" in page_of(spent)["simulation"]
    actions = budget.Actions(spent)
    actions.simulate(["ppal"], 2)
    (job,) = spent.jobs.queued
    config = SimulateConfig.from_mapping(job.config)
    assert (job.verb, config.strategies, config.seeds) == ("simulate", ("ppal",), (0, 1))
    for strategies, seeds in (([], 2), (["ppal"], 0), (["ppal"], None), (["ppal"], 1000)):
        with pytest.raises(UsageError):
            actions.simulate(strategies, seeds)


def test_a_simulation_says_what_is_needed_for_shares_of_all_labels_and_who_is_best(spent):
    folder = spent.workspace.reports / "simulations" / "0c"
    acts = {"verified": 0, "edited": 0, "drawn": 1, "deleted": 0}
    for strategy, ends in (("random", (100.0, 102.0)), ("tilehawk", (50.0, 51.0))):
        for seed, end in enumerate(ends):
            last = 0.4 if seed or strategy == "random" else 0.45
            rounds = [{"seconds": end * n, "boxes": n, "tiles": n, "measured": {"ap50": last * n}, **acts} for n in range(2)]
            write_json(folder / f"{strategy}-{seed}.json", {"strategy": strategy, "seed": seed, "rounds": rounds})
    write_json(folder / "all-0.json", {"seed": 0, "measured": {"ap50": 0.48}, "looks": 3.5})
    (folder / "curves.png").write_bytes(b"png")
    shown = page_of(spent)["simulation"]
    assert "tilehawk needs less time than chance over all seeds" in shown
    assert re.search(r"<td>\d+% to \d+%</td>", shown)
    assert "To 80% of all labels&#x27; AP50 (3.5 looks a tile)" in shown
    assert re.search(r"<td>97 s, \d+ s to 2 min</td>", shown)
    assert "<td>2 of 2 seeds fell short</td>" in shown
    assert "<td>1 of 2 seeds fell short</td>" in shown
    write_json(folder / "all-0.json", {"seed": 0, "measured": {"ap50": 0.48}, "looks": 0.3})
    shown = page_of(spent)["simulation"]
    assert "of all labels&#x27; AP50" not in shown
    assert "it saw each of them 0.3 times" in shown
    write_json(folder / "comparison.json", {"caution": "of the 9 labelled tiles 2 were drawn by chance"})
    assert "Of the 9 labelled tiles 2 were drawn by chance." in page_of(spent)["simulation"]


def test_a_simulation_of_which_no_replay_came_to_its_end_is_said_to_be_none(spent):
    folder = spent.workspace.reports / "simulations" / "0b"
    rounds = [{"seconds": 1.0, "boxes": 1, "tiles": 1, "measured": {"ap50": 0.1}, "verified": 0, "edited": 0, "drawn": 1, "deleted": 0}]
    half = {"seed": 0, "rounds": rounds, "config": {"budgets": [1.0, 1.0]}, "ended": False}
    write_json(folder / "random-0.json", {"strategy": "random", **half})
    (folder / "curves.png").write_bytes(b"png")
    assert "No replay of the strategy &#x27;random&#x27;" in page_of(spent)["simulation"]
    write_json(folder / "random-0.json", {"strategy": "random", **half, "ended": True})
    write_json(folder / "tilehawk-0.json", {"strategy": "tilehawk", **half})
    shown = page_of(spent)["simulation"]
    assert "<td>random" in shown
    assert "<td>tilehawk" not in shown


def test_an_audit_leads_to_review(spent):
    actions = budget.Actions(spent)
    assert "No audit yet" in page_of(spent)["doubtful"]
    actions.audit()
    (job,) = spent.jobs.queued
    assert job.verb == "audit"
    AuditConfig.from_mapping(job.config)
    with spent.workspace.session() as session:
        tile = round_tiles(session, get_round(session, 1))[0].tile_id
        add_round(session, budget_seconds=60, strategy="audit", seed=0, chosen=[ChosenTile(tile, 1.0, 9.0, {"why": "it sees car"})])
    (spent.workspace.reports / "audit.png").write_bytes(b"png")
    page = page_of(spent)
    assert f'<a href="/review?tile={tile}">' in page["doubtful"]
    assert "labels on 1 tile; waiting for another look: 1." in page["doubtful"]
    assert "1 tile by audit, 0 looked at" in page["cards"], "though it was reviewed before"
    assert "0 of 1 looked at" in page["rounds"]
    assert "/reports/audit.png?drawn=" in page["doubtful"]
    with spent.workspace.session() as session:
        round_tiles(session, get_round(session))[0].measured_seconds = 4.0
    page = page_of(spent)
    assert "All of them were looked at again" in page["doubtful"]
    assert "<em>looked at</em>" in page["cards"]


def test_wanted_classes_are_those_of_the_workspace(context):
    with context.workspace.session() as session:
        set_label_set(session, ["car", "ship"])
    assert page_of(context)["wanted"]["choices"] == ["car", "ship"]
