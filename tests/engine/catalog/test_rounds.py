import pytest

from engine.catalog.annotations import mark_reviewed
from engine.catalog.models import add_model
from engine.catalog.rounds import AUDIT, ChosenTile, add_round, get_round, round_tiles, rounds, waiting_tiles
from engine.errors import BadInput


def test_rounds_are_numbered_and_keep_their_tiles_in_order(workspace, fake):
    with workspace.session() as session:
        for name in "abc":
            fake("catalog").add_scene(session, name)
        with pytest.raises(BadInput, match="tilehawk rank"):
            get_round(session)
        chosen = [ChosenTile(3, 0.9, 10.0, {"uncertainty": 0.8}), ChosenTile(1, 0.5, 2.5, {})]
        first = add_round(session, budget_seconds=60, strategy="hybrid", seed=1, chosen=chosen)
        second = add_round(session, budget_seconds=60, strategy="random", seed=1, chosen=[])
        assert [(row.number, row.estimated_seconds) for row in rounds(session)] == [(1, 12.5), (2, 0.0)]
        assert get_round(session).id == second.id
        assert get_round(session, 1).id == first.id
        assert [(tile.tile_id, tile.position, tile.reasons) for tile in round_tiles(session, first)] == [
            (3, 0, {"uncertainty": 0.8}),
            (1, 1, {}),
        ]
        with pytest.raises(BadInput, match=r"no round 7.*\[1, 2\]"):
            get_round(session, 7)


def opened(session, *tiles, strategy="random"):
    return add_round(session, budget_seconds=60, strategy=strategy, seed=1, chosen=[ChosenTile(tile, 1.0, 20.0, {}) for tile in tiles])


@pytest.fixture
def session(workspace, fake):
    """Of a workspace with eight tiles."""
    with workspace.session() as session:
        fake("catalog").add_scene(session, "a", width=256, height=128, split="train")
        yield session


def test_tiles_of_open_rounds_wait_until_they_are_reviewed_each_in_the_newest(session):
    opened(session, 1, 2, 3)
    opened(session, 3, 4, strategy="look-alikes")
    opened(session, 5, strategy=AUDIT)
    assert waiting_tiles(session) == {1: [1, 2], 2: [3, 4]}
    mark_reviewed(session, [2, 4], by="somebody")
    assert waiting_tiles(session) == {1: [1], 2: [3]}


def close(session, row):
    row.state = "annotated"


def spend(session, row):
    round_tiles(session, row)[0].measured_seconds = 60.0
    session.flush()


def learn(session, row):
    add_model(session, name="detector", stage="finetune", config={}, data_hash="0" * 64)


@pytest.mark.parametrize("end", [close, spend, learn])
def test_what_is_left_over_when_a_round_is_over_does_not_wait(session, end):
    row = opened(session, 1, 2, 3)
    mark_reviewed(session, [1], by="somebody")
    assert waiting_tiles(session) == {1: [2, 3]}
    end(session, row)
    assert waiting_tiles(session) == {}


def test_a_round_that_nobody_began_outlives_a_new_detector(session):
    opened(session, 1, 2)
    learn(session, None)
    assert waiting_tiles(session) == {1: [1, 2]}
