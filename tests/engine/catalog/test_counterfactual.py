"""Rounds against chance: what visits say, and that two rounds without a gap make the next one a drawn one, once."""

import pytest

from engine.catalog.annotations import mark_reviewed
from engine.catalog.counterfactual import chance_gaps, keep_fall_back, must_fall_back
from engine.catalog.rounds import AUDIT, ChosenTile, add_round
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig
from engine.stages.rank import RankConfig, rank

PACE = (Prices(), CostFitConfig())


@pytest.fixture
def workspace(tmp_path, fake):
    """96 tiles of training ground."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene, train=12)
        yield made


def opened_round(session, tiles, by_chance):
    """A round of ``tiles``, of which those at ``by_chance`` were drawn at random."""
    chosen = [ChosenTile(tile, 1.0, 20.0, {"why": "", "audit": place in by_chance}) for place, tile in enumerate(tiles)]
    return add_round(session, budget_seconds=20.0 * len(tiles), strategy="tilehawk", seed=0, chosen=chosen, prediction_set_id=None)


def annotated_round(session, tiles, *, drawn_by_choice, drawn_by_chance):
    """A round of visits of 20 s each, in its first half to tiles that were chosen, in its second to tiles drawn at random."""
    half = len(tiles) // 2
    opened_round(session, tiles, range(half, len(tiles)))
    for place, tile in enumerate(tiles):
        drawn = drawn_by_chance if place >= half else drawn_by_choice
        record_visit(session, MeasuredVisit(tile, "somebody", "browser", 20.0, 0, 0, drawn + place % 2, 0))
    mark_reviewed(session, tiles, by="somebody")


def ids(fake, workspace):
    return [tile.id for tile in fake("labelled").records(workspace, "train")]


def test_chosen_tiles_that_teach_more_show_a_gap(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        annotated_round(session, tiles[:40], drawn_by_choice=6, drawn_by_chance=1)
        found = chance_gaps(session, *PACE)[0]
        assert (found.round, found.first, found.fell_back) == (1, 1, False)
        assert found.gap.ratio == pytest.approx(6.5 / 1.5, rel=0.03)
        assert found.gap.low > 1
        assert must_fall_back(session, "tilehawk", *PACE) is None


def test_false_alarms_teach_less_than_missed_objects(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        opened_round(session, tiles[:40], range(20, 40))
        for place, tile in enumerate(tiles[:40]):
            chosen = place < 20
            acts = (0, 0, 0, 9) if chosen else (0, 0, 1, 0)
            record_visit(session, MeasuredVisit(tile, "somebody", "browser", 17.5 if chosen else 16.0, *acts))
        gap = chance_gaps(session, *PACE)[0].gap
    assert gap.ratio == pytest.approx((9 * 1.5 / 17.5) / (12 / 16), rel=0.03), "nine deleted boxes are worth a drawn one and an eighth"


@pytest.mark.parametrize("lying", [0, 22])
def test_a_tile_that_was_left_lying_does_not_decide_the_gap(workspace, fake, lying):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        opened_round(session, tiles[:44], range(22, 44))
        for place, tile in enumerate(tiles[:44]):
            seconds = 5400.0 if place == lying else 20.0
            record_visit(session, MeasuredVisit(tile, "somebody", "browser", seconds, 0, 0, 6 if place < 22 else 2, 0))
        gap = chance_gaps(session, *PACE)[0].gap
    assert gap.ratio == pytest.approx(3, rel=0.03)
    assert (gap.chosen, gap.drawn) == ((21, 22) if lying < 22 else (22, 21))
    assert gap.low > 1


def test_a_round_that_nobody_annotated_says_nothing(workspace, fake):
    fake("labelled").predict(workspace, "first")
    rank(workspace, RankConfig(budget_seconds=200))
    with workspace.session() as session:
        assert [each.gap for each in chance_gaps(session, *PACE)] == [None]


def test_a_tile_of_two_rounds_counts_in_the_newer_alone(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        opened_round(session, tiles[:40], range(20, 40))
        annotated_round(session, tiles[:40], drawn_by_choice=1, drawn_by_chance=1)
        assert [each.gap is None for each in chance_gaps(session, *PACE)] == [True, False]
        assert must_fall_back(session, "tilehawk", *PACE) is None, "it is one round that was annotated"


def test_small_rounds_are_looked_at_together(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        for start in (0, 14, 28, 42):
            annotated_round(session, tiles[start : start + 14], drawn_by_choice=6, drawn_by_chance=1)
        opened_round(session, tiles[56:60], range(2, 4))
        found = chance_gaps(session, *PACE)
    assert [(each.round, each.first, each.gap is not None) for each in found] == [
        (1, 1, False),
        (2, 2, False),
        (3, 1, True),
        (4, 4, False),
        (5, 5, False),
    ]
    assert (found[2].gap.chosen, found[2].gap.drawn, found[2].rounds) == (21, 21, "rounds 1 to 3")


def test_a_round_of_which_nothing_was_drawn_at_random_is_not_looked_at(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        opened_round(session, tiles[40:48], ())
        for tile in tiles[40:48]:
            record_visit(session, MeasuredVisit(tile, "somebody", "browser", 20.0, 0, 0, 1, 0))
        annotated_round(session, tiles[:40], drawn_by_choice=6, drawn_by_chance=1)
        gap = chance_gaps(session, *PACE)[1].gap
    assert (gap.chosen, gap.drawn) == (20, 20)


def test_after_two_rounds_without_a_gap_one_is_drawn_and_says_why(workspace, fake):
    tiles = ids(fake, workspace)
    fake("labelled").predict(workspace, "first")
    with workspace.session() as session:
        for start in (0, 40):
            annotated_round(session, tiles[start : start + 40], drawn_by_choice=1, drawn_by_chance=1)
    told = []
    again = {"budget_seconds": 200, "waiting_too": True}
    stubborn = rank(workspace, RankConfig(**again, fall_back=False))
    assert (stubborn.strategy, stubborn.fell_back) == ("tilehawk", None)
    report = rank(workspace, RankConfig(**again), progress=lambda done, total, message: told.append(message))
    assert report.strategy == "random"
    assert "could not be told from tiles drawn at random" in report.fell_back
    assert "round 1: " in report.fell_back
    assert report.fell_back in told
    assert all("at random" in tile.why for tile in report.tiles)
    for _ in range(2):
        assert rank(workspace, RankConfig(**again)).strategy == "tilehawk", "until there is something new to go by"
    assert rank(workspace, RankConfig(**again, strategy="random")).fell_back is None


def test_what_rounds_of_one_strategy_say_does_not_decide_those_of_another(workspace, fake):
    tiles = ids(fake, workspace)
    fake("labelled").predict(workspace, "first")
    with workspace.session() as session:
        for start in (0, 40):
            annotated_round(session, tiles[start : start + 40], drawn_by_choice=1, drawn_by_chance=1)
        assert must_fall_back(session, "tilehawk", *PACE)
        assert must_fall_back(session, "k-center", *PACE) is None
    report = rank(workspace, RankConfig(budget_seconds=200, strategy="k-center"))
    assert (report.strategy, report.fell_back) == ("k-center", None)


def test_an_audit_between_two_rounds_changes_nothing(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        for start in (0, 40):
            annotated_round(session, tiles[start : start + 40], drawn_by_choice=1, drawn_by_chance=1)
        why = must_fall_back(session, "tilehawk", *PACE)
        assert why is not None
        link = ChosenTile(tiles[0], 1.0, 20.0, {"why": ""})
        add_round(session, budget_seconds=20, strategy=AUDIT, seed=0, chosen=[link], prediction_set_id=None)
        assert must_fall_back(session, "tilehawk", *PACE) == why
        drawn = ChosenTile(tiles[-1], 1.0, 20.0, {"why": ""})
        keep_fall_back(add_round(session, budget_seconds=20, strategy="random", seed=0, chosen=[drawn], prediction_set_id=None), why)
        assert must_fall_back(session, "tilehawk", *PACE) is None
        add_round(session, budget_seconds=20, strategy=AUDIT, seed=0, chosen=[link], prediction_set_id=None)
        assert must_fall_back(session, "tilehawk", *PACE) is None
