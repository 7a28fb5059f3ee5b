"""What is in a workspace, at a glance."""

from __future__ import annotations

from engine.catalog.rounds import rounds
from engine.catalog.summary import set_aside_files, summarize, tile_page
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


def test_rounds_and_models_come_with_their_metrics(filled_workspace):
    summary = summarize(filled_workspace)
    assert [(each.number, each.tiles, each.measured_seconds) for each in summary.rounds] == [(1, 2, 55.0), (2, 2, None)]
    assert summary.rounds[0].metrics == {"ap": 0.1, "ap50": 0.25}
    assert [(model.name, model.metrics) for model in summary.models] == [("first", {"test": {"ap": 0.1, "ap50": 0.25}})]
    with filled_workspace.session(write=False) as session:
        assert len(rounds(session)) == len(summary.rounds)


def test_holder_of_the_worker_lock_is_named(tmp_path):
    with Workspace.create(tmp_path / "new") as workspace, workspace.worker_lock("finetune"):
        assert "finetune" in (summarize(workspace).busy or "")


def test_set_aside_files_come_in_pages(filled_workspace):
    with filled_workspace.session(write=False) as session:
        first = set_aside_files(session, limit=5)
        assert [each.name for each in first] == ["broken.jpg"]
        assert first[0].reason
        assert set_aside_files(session, limit=5, offset=1) == []


def test_pages_of_tiles_join_to_all_tiles(filled_workspace):
    with filled_workspace.session(write=False) as session:
        pages = [tile_page(session, limit=7, offset=offset) for offset in range(0, 200, 7)]
        assert [tile for page in pages for tile in page] == tiles(session)
        assert max(len(page) for page in pages) == 7
