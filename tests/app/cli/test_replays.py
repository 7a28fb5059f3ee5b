"""The commands ``simulate`` and ``audit``."""

from __future__ import annotations

import pytest

from engine.catalog.annotations import mark_reviewed
from engine.catalog.workspace import Workspace


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
