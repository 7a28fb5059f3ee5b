"""Labelled tiles that nobody chose: drawn at random, or told of by a file."""

import pytest

from engine.catalog import ledger
from engine.catalog.annotations import mark_reviewed
from engine.catalog.chance import drawn_by_chance
from engine.catalog.rounds import AUDIT, ChosenTile, add_round


@pytest.fixture
def session(workspace, fake):
    """Of a workspace with eight tiles, reviewed by Ada."""
    with workspace.session() as session:
        fake("catalog").add_scene(session, "a", width=256, height=128, split="train")
        ledger.record(session, "labels", source="truth.json")
        mark_reviewed(session, [1, 2], by="truth.json")
        mark_reviewed(session, range(3, 9), by="ada")
        yield session


def opened(session, strategy, *tiles, audit=()):
    chosen = [ChosenTile(tile, 1.0, 20.0, {"audit": tile in audit}) for tile in tiles]
    add_round(session, budget_seconds=60, strategy=strategy, seed=1, chosen=chosen)


def test_tiles_of_label_files_and_those_drawn_at_random_count(session):
    assert drawn_by_chance(session, range(1, 9)) == {1, 2}
    opened(session, "random", 3, 4)
    opened(session, "tilehawk", 5, 6, 7, audit=(6,))
    assert drawn_by_chance(session, range(1, 9)) == {1, 2, 3, 4, 6}
    assert drawn_by_chance(session, [2, 4, 5]) == {2, 4}
    assert drawn_by_chance(session, []) == set()


def test_the_newest_round_that_wanted_labels_says_how_a_tile_came(session):
    opened(session, "random", 3, 4)
    opened(session, "tilehawk", 4, 1)
    opened(session, AUDIT, 1, 2, 3, 5)
    assert drawn_by_chance(session, range(1, 9)) == {2, 3}
