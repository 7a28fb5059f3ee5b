import pytest

from engine.catalog.rounds import ChosenTile, add_round, get_round, round_tiles, rounds
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
