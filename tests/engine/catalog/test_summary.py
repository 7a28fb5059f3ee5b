"""What is in a workspace, at a glance."""

from __future__ import annotations

from engine.catalog.models import add_model
from engine.catalog.rounds import add_round
from engine.catalog.summary import set_aside_files, summarize
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace


def test_new_workspace_is_empty(tmp_path):
    with Workspace.create(tmp_path / "new") as workspace:
        summary = summarize(workspace)
    assert summary.scenes == summary.sources == summary.set_aside == summary.withheld == 0
    assert summary.annotations == {}
    assert summary.busy is None


def test_counts_are_those_of_the_catalog(filled_workspace):
    summary = summarize(filled_workspace)
    with filled_workspace.session(write=False) as session:
        counted = {split: len(tiles(session, split=split)) for split in ("train", "dev", "test", "none")}
        reviewed = {split: len(tiles(session, split=split, reviewed=True)) for split in ("train", "dev", "test", "none")}
    assert summary.scenes == 3
    assert summary.tiles == counted
    assert summary.reviewed == reviewed
    assert sum(summary.annotations.values()) + summary.withheld == 12
    assert list(summary.annotations) == ["car", "<b>ship</b>"]


def test_models_come_with_their_metrics(filled_workspace):
    assert [(model.name, model.metrics) for model in summarize(filled_workspace).models] == [("first", {"test": {"ap": 0.1, "ap50": 0.25}})]


def test_round_shows_what_it_cost_and_the_quality_it_bought(filled_workspace):
    first, second = summarize(filled_workspace).rounds
    assert (first.number, first.tiles, first.measured_seconds, first.metrics) == (1, 2, 55.0, {"ap": 0.1, "ap50": 0.25})
    assert (second.number, second.tiles, second.measured_seconds, second.metrics) == (2, 2, None, {})


def test_model_counts_for_the_round_before_it_and_the_last_evaluated_one_wins(tmp_path):
    with Workspace.create(tmp_path / "new") as workspace:
        with workspace.session() as session:
            for number, model_made in ((1, [0.1, None, 0.2]), (2, []), (3, [0.4])):
                row = add_round(session, budget_seconds=1.0, strategy="random", seed=0, chosen=[])
                row.created, row.measured_seconds = 100.0 * number, 1.0
                for position, ap in enumerate(model_made, start=1):
                    metrics = {} if ap is None else {"test": {"ap": ap, "ap50": 2 * ap, "ap_small": None}}
                    model = add_model(session, name=f"m{number}-{position}", stage="finetune", config={}, data_hash="", metrics=metrics)
                    model.created = 100.0 * number + position
        found = [each.metrics for each in summarize(workspace).rounds]
    assert found == [{"ap": 0.2, "ap50": 0.4}, {}, {"ap": 0.4, "ap50": 0.8}]


def test_holder_of_the_worker_lock_is_named(tmp_path):
    with Workspace.create(tmp_path / "new") as workspace, workspace.worker_lock("finetune"):
        assert "finetune" in (summarize(workspace).busy or "")


def test_set_aside_files_come_in_pages(filled_workspace):
    with filled_workspace.session(write=False) as session:
        first = set_aside_files(session, limit=5)
        assert [each.name for each in first] == ["broken.jpg"]
        assert first[0].reason
        assert set_aside_files(session, limit=5, offset=1) == []
