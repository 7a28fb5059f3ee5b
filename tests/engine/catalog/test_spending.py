"""Seconds of tiles on their scenes: what was measured, what is planned, and what belongs to no round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import select

from engine.catalog.annotations import mark_reviewed
from engine.catalog.rounds import ChosenTile, add_round, get_round, round_tiles
from engine.catalog.schema import Review
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


def test_nothing_is_planned_on_a_tile_that_is_reviewed_though_nobody_took_the_time(workspace: Workspace) -> None:
    with workspace.session() as session:
        second, other = (link.tile_id for link in round_tiles(session, get_round(session, 1))[1:])
        mark_reviewed(session, [second], by="somebody")
        add_round(session, budget_seconds=60, strategy="tilehawk", seed=0, chosen=[ChosenTile(other, 1.0, 12.0, {})])
        found = [(tile.round, tile.seconds) for tile in tile_spending(session) if not tile.spent]
        assert found == [(2, 7.0), (3, 12.0)], "an audit that is not finished, and the newest round of a tile that nobody saw"
        get_round(session, 2).state = "annotated"
        assert [tile.round for tile in tile_spending(session) if not tile.spent] == [3]


def test_what_was_spent_outside_of_rounds_stays_though_an_audit_looks_again(workspace: Workspace) -> None:
    with workspace.session() as session:
        third = session.scalars(select(Review.tile_id).where(Review.seconds == 5.0)).one()
        row = add_round(session, budget_seconds=60, strategy="audit", seed=0, chosen=[ChosenTile(third, 1.0, 9.0, {})])
        assert tile_spending(session)[0].seconds == 5.0
        session.scalars(select(Review).where(Review.tile_id == third)).one().seconds = 8.0
        round_tiles(session, row)[0].measured_seconds = 3.0
        found = [(tile.round, tile.seconds) for tile in tile_spending(session) if tile.spent]
    assert found == [(None, 5.0), (1, 45.0), (3, 3.0)]


def test_scenes_come_by_what_they_cost(workspace: Workspace) -> None:
    with workspace.session(write=False) as session:
        first, second = scene_spending(session, tile_spending(session))
    assert first == SceneSpending(first.scene_id, "a", 4, 50.0, 27.0)
    assert second == SceneSpending(second.scene_id, "b", 1, 0.0, 10.0)


def test_a_new_workspace_has_spent_nothing(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "new") as workspace, workspace.session(write=False) as session:
        assert (tile_spending(session), scene_spending(session, [])) == ([], [])
