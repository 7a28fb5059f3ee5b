"""costs: what rounds were expected to cost against what they did, and rank, which learns from it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from sqlalchemy import update

from engine.catalog.rounds import ChosenTile, add_round, get_round, round_tiles
from engine.catalog.schema import RoundRow, RoundTile
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo, UsageError
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig
from engine.stages.costs import CostsConfig, costs
from engine.stages.oracle import OracleConfig, consult_oracle
from engine.stages.rank import RankConfig, rank

Fake = Callable[[str], ModuleType]
SLOW = Prices().scaled(6)
EAGER = CostFitConfig(minimum_visits=4)


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        yield made


def annotate(workspace: Workspace, *, budget: float = 150, prices: Prices = SLOW, **config: object) -> None:
    """A round that is ranked by what is known by then, and annotated by somebody with these prices."""
    rank(workspace, RankConfig(budget_seconds=budget, strategy="random", fit=EAGER, **config))
    with workspace.session() as session:
        get_round(session).budget_seconds = 1e6
    consult_oracle(workspace, OracleConfig(prices=prices))


def test_nothing_timed_says_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(NothingToDo, match="tilehawk rank"):
        costs(workspace, CostsConfig())


def test_a_round_is_held_against_what_was_foretold(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found")
    annotate(workspace)
    report = costs(workspace, CostsConfig(fit=EAGER, hourly_rate=36))
    with workspace.session(write=False) as session:
        links = round_tiles(session, get_round(session))
        stored = get_round(session).metrics["cost"]
    [one] = report.rounds
    assert (one.round, one.tiles, one.timed, one.idle) == (1, len(links), len(links), 0)
    assert one.seconds_measured == pytest.approx(sum(link.measured_seconds or 0 for link in links))
    assert (one.seconds_p50, one.seconds_p90) == pytest.approx((stored["seconds_p50"], stored["seconds_p90"]))
    assert one.error_percent == pytest.approx(100 * (one.seconds_p50 / one.seconds_measured - 1))
    assert -70 < one.error_percent < -50, "six times as slow as the priors, and boxes expected that are not there"
    assert one.money_measured == pytest.approx(one.seconds_measured / 100)
    assert report.median_error_percent == abs(one.error_percent)
    json.dumps(asdict(report), allow_nan=False)


def test_an_audit_is_no_round_that_was_foretold_and_takes_no_tile_from_one(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found")
    annotate(workspace)
    before = costs(workspace, CostsConfig(fit=EAGER))
    with workspace.session() as session:
        again = [ChosenTile(link.tile_id, 1.0, 6.0, {"why": "the detector disagrees"}) for link in round_tiles(session, get_round(session))]
        row = add_round(session, budget_seconds=60, strategy="audit", seed=0, chosen=again)
        for link in round_tiles(session, row):
            link.measured_seconds = 90.0
    assert costs(workspace, CostsConfig(fit=EAGER)) == before


def test_the_next_round_is_foretold_better_by_what_was_measured(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found")
    annotate(workspace)
    annotate(workspace, budget=1000)
    first, second = costs(workspace, CostsConfig(fit=EAGER)).rounds
    assert abs(second.error_percent) < 25 < abs(first.error_percent)
    assert second.seconds_measured < second.seconds_p90


def test_prices_are_listed_with_how_often_each_act_was_seen(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found", keep=0.5)
    annotate(workspace)
    report = costs(workspace, CostsConfig(fit=EAGER))
    prices = {price.act: price for price in report.prices}
    assert report.visits == report.used == prices["open"].seen > 4
    assert prices["draw"].seen > 0
    assert prices["draw"].prior == 12 < prices["draw"].fitted < 72.1
    assert prices["density"].fitted == pytest.approx(0, abs=0.1)


def test_tiles_left_lying_are_counted_and_left_out(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found")
    annotate(workspace, prices=Prices())
    before = costs(workspace, CostsConfig(fit=EAGER))
    with workspace.session() as session:
        link = round_tiles(session, get_round(session))[0]
        link.measured_seconds = 5000.0
        record_visit(session, MeasuredVisit(link.tile_id, "ana", "browser", 5000.0, 1, 0, 0, 0))
        expected = link.estimated_seconds
    after = costs(workspace, CostsConfig(fit=EAGER))
    assert (after.idle, after.rounds[0].idle) == (1, 1)
    assert after.rounds[0].seconds_measured < before.rounds[0].seconds_measured
    assert after.rounds[0].seconds_p50 == pytest.approx(before.rounds[0].seconds_p50 - expected, rel=0.05)


def test_rounds_from_before_costs_were_kept_are_compared_by_what_they_expected(workspace: Workspace, fake: Fake) -> None:
    annotate(workspace)
    with workspace.session() as session:
        session.execute(update(RoundRow).values(metrics={}))
        session.execute(update(RoundTile).values(reasons={}))
    [one] = costs(workspace, CostsConfig()).rounds
    assert 0 < one.seconds_p50 < one.seconds_p90


@pytest.mark.parametrize("picture", [True, False])
def test_the_picture_lies_in_the_reports(workspace: Workspace, picture: bool) -> None:
    annotate(workspace)
    report = costs(workspace, CostsConfig(picture=picture))
    assert (workspace.reports / "costs.png").exists() == picture
    assert report.picture == ("reports/costs.png" if picture else None)
    if picture:
        with Image.open(workspace.root / "reports" / "costs.png") as drawn:
            assert drawn.size[0] > 800


def test_rank_says_by_what_it_priced_the_batch(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found")
    before = rank(workspace, RankConfig(budget_seconds=200, fit=EAGER)).cost
    assert (before.visits, before.rounds, before.factor) == (0, 0, 1)
    assert before.prices == Prices().model_dump()
    annotate(workspace)
    report = rank(workspace, RankConfig(budget_seconds=400, fit=EAGER, hourly_rate=60, currency="CHF", waiting_too=True))
    assert report.cost.visits > 4
    assert report.cost.rounds == 1
    assert report.cost.prices["verify"] > 2 * Prices().verify
    assert 0 < report.cost.seconds_p50 < report.cost.seconds_p90
    assert report.cost.seconds_p50 <= report.estimated_seconds <= 400
    assert (report.cost.money_p90, report.cost.currency) == (pytest.approx(report.cost.seconds_p90 / 60), "CHF")
    for tile in report.tiles:
        assert 0 < tile.reasons["seconds"]["p50"] < tile.reasons["seconds"]["p90"]


def test_rank_can_be_told_to_keep_to_the_prices_it_is_given(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "found")
    annotate(workspace)
    report = rank(workspace, RankConfig(budget_seconds=400, fit=EAGER.model_copy(update={"measured": False}), waiting_too=True))
    assert (report.cost.visits, report.cost.factor, report.cost.prices) == (0, 1, Prices().model_dump())


def test_without_a_detector_the_rounds_without_one_say_how_many_boxes_there_are(workspace: Workspace) -> None:
    annotate(workspace, prices=Prices(), budget=600)
    factor = rank(workspace, RankConfig(budget_seconds=600, fit=EAGER)).cost.factor
    assert 0.2 < factor < 0.8, "eight boxes were expected on every tile, there are fewer"


def test_a_budget_in_money_is_one_in_seconds(workspace: Workspace) -> None:
    report = rank(workspace, RankConfig(budget_money=5, hourly_rate=60))
    assert report.budget_seconds == 300
    with workspace.session(write=False) as session:
        assert get_round(session).budget_seconds == 300


@pytest.mark.parametrize(
    ("config", "error", "found"),
    [
        (RankConfig(budget_money=5, budget_seconds=300), UsageError, "budget_seconds = 300 and budget_money = 5"),
        (RankConfig(budget_money=0), BadInput, "0 seconds"),
        (RankConfig(budget_money=-1), BadInput, "-120 seconds"),
        (RankConfig(budget_money=0.5), NothingToDo, "pays for no tile"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(workspace: Workspace, config: RankConfig, error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found):
        rank(workspace, config)
