"""Rounds against chance: what visits say, and that two rounds without a gap make the next one a drawn one, once."""

import pytest

from engine.catalog.annotations import mark_reviewed
from engine.catalog.counterfactual import chance_gaps, keep_fall_back, must_fall_back
from engine.catalog.rounds import AUDIT, ChosenTile, add_round
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.stages.rank import RankConfig, rank


@pytest.fixture
def workspace(tmp_path, fake):
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        yield made


def annotated_round(session, tiles, *, drawn_by_choice, drawn_by_chance):
    """A round of twelve visits, six of tiles that were chosen and six of tiles drawn at random, 20 s each."""
    chosen = [ChosenTile(tile, 1.0, 20.0, {"why": "", "audit": place >= 6}) for place, tile in enumerate(tiles)]
    add_round(session, budget_seconds=240, strategy="tilehawk", seed=0, chosen=chosen, prediction_set_id=None)
    for place, tile in enumerate(tiles):
        drawn = drawn_by_chance if place >= 6 else drawn_by_choice
        record_visit(session, MeasuredVisit(tile, "somebody", "browser", 20.0, 0, 0, drawn + place % 2, 0))


def ids(fake, workspace):
    return [tile.id for tile in fake("labelled").records(workspace, "train")]


def test_chosen_tiles_that_teach_more_show_a_gap(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        annotated_round(session, tiles[:12], drawn_by_choice=6, drawn_by_chance=1)
        found = chance_gaps(session)[0]
        assert (found.round, found.fell_back) == (1, False)
        assert found.gap.mean == pytest.approx(15)
        assert found.gap.low > 0
        assert must_fall_back(session) is None


def test_a_round_that_nobody_annotated_says_nothing(workspace, fake):
    fake("labelled").predict(workspace, "first")
    rank(workspace, RankConfig(budget_seconds=200))
    with workspace.session() as session:
        assert [each.gap for each in chance_gaps(session)] == [None]


def test_after_two_rounds_without_a_gap_one_is_drawn_and_says_why(workspace, fake):
    tiles = ids(fake, workspace)
    fake("labelled").predict(workspace, "first")
    with workspace.session() as session:
        for _ in range(2):
            annotated_round(session, tiles[:12], drawn_by_choice=1, drawn_by_chance=1)
        mark_reviewed(session, tiles[:2], by="somebody")
    told = []
    stubborn = rank(workspace, RankConfig(budget_seconds=200, fall_back=False))
    assert (stubborn.strategy, stubborn.fell_back) == ("tilehawk", None)
    report = rank(workspace, RankConfig(budget_seconds=200), progress=lambda done, total, message: told.append(message))
    assert report.strategy == "random"
    assert "did not teach the detector more a minute" in report.fell_back
    assert report.fell_back in told
    assert all("at random" in tile.why for tile in report.tiles)
    assert rank(workspace, RankConfig(budget_seconds=200)).strategy == "tilehawk"
    assert rank(workspace, RankConfig(budget_seconds=200, strategy="random")).fell_back is None


def test_an_audit_between_two_rounds_changes_nothing(workspace, fake):
    tiles = ids(fake, workspace)
    with workspace.session() as session:
        for _ in range(2):
            annotated_round(session, tiles[:12], drawn_by_choice=1, drawn_by_chance=1)
        why = must_fall_back(session)
        assert why is not None
        keep_fall_back(
            add_round(
                session,
                budget_seconds=20,
                strategy="random",
                seed=0,
                chosen=[ChosenTile(tiles[0], 1.0, 20.0, {"why": ""})],
                prediction_set_id=None,
            ),
            why,
        )
        assert must_fall_back(session) is None
        add_round(
            session,
            budget_seconds=20,
            strategy=AUDIT,
            seed=0,
            chosen=[ChosenTile(tiles[1], 1.0, 20.0, {"why": ""})],
            prediction_set_id=None,
        )
        assert must_fall_back(session) is None
