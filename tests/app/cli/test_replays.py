"""The commands ``simulate`` and ``audit``."""

from __future__ import annotations

import pytest

from app.cli.output import show
from engine.catalog.annotations import mark_reviewed
from engine.catalog.workspace import Workspace
from engine.stages.simulate import ShareResult, SimulationReport, StrategyResult


@pytest.fixture
def workspace(tmp_path, fake):
    """Train ground without a label; returns the folder."""
    folder = tmp_path / "workspace"
    with Workspace.create(folder) as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
    return folder


def test_without_labels_there_is_nothing_to_replay(tilehawk, workspace):
    typed = tilehawk("simulate", "--strategies", "tilehawk,ppal", "--seeds", "0,1", "--workspace", workspace)
    assert typed.code == 4
    assert "0 tiles of train ground are reviewed" in typed.err


def test_the_report_has_tables_of_shares_and_of_dearer_boxes():
    report = SimulationReport(
        strategies=(
            StrategyResult("tilehawk", 0.5, 900.0, 0.62, 0.5, 0.8, 0.01),
            StrategyResult("random", 0.4, 1450.0, 1.0, None, None, None),
        ),
        best="tilehawk",
        to_share=(ShareResult("80%", "tilehawk", 1200.0, 1000.0, 1400.0, 0), ShareResult("80%", "random", None, None, None, 2)),
        ratio_at={"35 s a box": {"tilehawk": 0.47, "random": 1.0}},
        ratio_in={"tiles": {"tilehawk": 0.55, "random": 1.0}},
        control_ap50=0.4,
        all_labels_ap50=0.6,
        all_labels_looks=4.0,
        shares_left_out=None,
        tiles=4,
        by_chance=1,
        caution="most tiles were chosen",
        boxes=9,
        measured_on=1,
        replays=6,
        file="reports/simulations/a",
        comparison="reports/simulations/a/comparison.json",
        picture="reports/simulations/a/curves.png",
        seeds_picture="reports/simulations/a/seeds.png",
    )
    said = [line.split() for line in show(report, as_json=False).splitlines()]
    assert ["tilehawk", "0.5", "900", "0.62", "0.5", "0.8", "0.01"] in said
    assert ["80%", "random", "-", "-", "-", "2"] in said
    assert ["35", "s", "a", "box", "tilehawk", "0.47,", "random", "1"] in said
    assert ["caution", "most", "tiles", "were", "chosen"] in said
    assert ["tiles", "tilehawk", "0.55,", "random", "1"] in said


def test_an_unknown_strategy_is_refused_with_those_there_are(tilehawk, workspace):
    typed = tilehawk("simulate", "--strategies", "tilehawk,guess", "--workspace", workspace)
    assert typed.code == 2
    assert "guess" in typed.err
    assert "k-center" in typed.err


def test_labels_that_the_detector_agrees_with_are_left_alone(tilehawk, workspace, fake):
    with Workspace.open(workspace) as opened:
        fake("labelled").predict(opened, "first", keep=0.0)
        with opened.session() as session:
            mark_reviewed(session, [tile.id for tile in fake("labelled").records(opened, "train")], by="somebody")
    typed = tilehawk("audit", "--workspace", workspace, "--json")
    assert typed.code == 0, typed.err
    assert (typed.document["round"], typed.document["labelled_tiles"], typed.document["tiles"]) == (None, 16, [])
    assert tilehawk("audit", "--workspace", workspace, "--budget-seconds", "0").code == 2
