"""Seconds of tiles on their scenes: what was measured, what is planned, and what belongs to no round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from engine.catalog.annotations import mark_reviewed
from engine.catalog.rounds import ChosenTile, add_round, round_tiles
from engine.catalog.spending import SceneSpending, scene_spending, tile_spending
from engine.catalog.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, fake: Callable[[str], ModuleType]) -> Iterator[Workspace]:
    """Two scenes of four tiles; round 1 chose two tiles of the first and one of the second, round 2 one of them again."""
    with Workspace.create(tmp_path / "workspace") as made:
        with made.session() as session:
            ids = []
            for name in ("a", "b"):
                _, rows = fake("catalog").add_scene(session, name, width=64, height=64, tile=32, split="train")
                ids.append([row.id for row in rows])
            (first, second, third, _), (other, *_) = ids
            chosen = [ChosenTile(first, 1.0, 30.0, {}), ChosenTile(second, 1.0, 20.0, {}), ChosenTile(other, 1.0, 10.0, {})]
            row = add_round(session, budget_seconds=60, strategy="tilehawk", seed=0, chosen=chosen)
            round_tiles(session, row)[0].measured_seconds = 45.0
            add_round(session, budget_seconds=60, strategy="audit", seed=0, chosen=[ChosenTile(first, 1.0, 7.0, {})])
            mark_reviewed(session, [third], by="somebody", seconds=5.0)
            mark_reviewed(session, [first], by="somebody", seconds=45.0)
        yield made


def test_a_tile_costs_what_was_measured_else_what_is_expected(workspace: Workspace) -> None:
    with workspace.session(write=False) as session:
        found = tile_spending(session)
    assert [(tile.round, tile.seconds, tile.spent) for tile in found] == [
        (None, 5.0, True),
        (1, 45.0, True),
        (1, 20.0, False),
        (1, 10.0, False),
        (2, 7.0, False),
    ]
    assert found[1].window.xyxy == (0, 0, 32, 32)
    assert found[1].scene_id == found[4].scene_id != found[3].scene_id


def test_scenes_come_by_what_they_cost(workspace: Workspace) -> None:
    with workspace.session(write=False) as session:
        first, second = scene_spending(session, tile_spending(session))
    assert first == SceneSpending(first.scene_id, "a", 4, 50.0, 27.0)
    assert second == SceneSpending(second.scene_id, "b", 1, 0.0, 10.0)


def test_a_new_workspace_has_spent_nothing(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "new") as workspace, workspace.session(write=False) as session:
        assert (tile_spending(session), scene_spending(session, [])) == ([], [])
