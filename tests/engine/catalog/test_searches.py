"""Searches and their hits."""

import pytest

from engine.catalog.models import add_model
from engine.catalog.searches import FoundHit, add_search, hits, searches
from engine.errors import BadInput

FOUND = ((0, (10.0, 10, 30, 30), 0.9), (1, (20.0, 20, 40, 44), 0.8), (1, (50.0, 40, 70, 60), 0.5))
"""Index of the tile, box in it, score: the last one reaches over the edge of scene and tile."""


@pytest.fixture
def filled(workspace, fake):
    """A scene of 128 × 64 px in two tiles, and a search with three hits."""
    with workspace.session() as session:
        _, rows = fake("catalog").add_scene(session, "a.tif", width=128, height=64, split="train")
        add_model(session, name="m", stage="pretrain", config={}, data_hash="0")
        tiles = [row.id for row in rows]
        workspace.first = search(session, tiles, "one")
        workspace.tiles = tiles
    return workspace


def search(session, tiles, fingerprint, found=FOUND):
    stored = [FoundHit(tiles[index], box, score) for index, box, score in found]
    return add_search(
        session, fingerprint=fingerprint, tile_id=tiles[0], box_tile=(1.0, 2, 21, 22), model_id=1, config={"hits": 3}, found=stored
    )


def test_a_search_is_read_back_as_it_was_stored(filled):
    with filled.session(write=False) as session:
        (record,) = searches(session)
        found = hits(session, record.id)
    assert (record.id, record.tile_id, record.box_tile, record.model) == (filled.first, filled.tiles[0], (1, 2, 21, 22), "m")
    assert (record.hits, record.yes, record.no) == (3, 0, 0)
    assert [(filled.tiles.index(hit.tile.id), hit.box_tile, hit.score) for hit in found] == list(FOUND)
    assert [(hit.position, hit.decision, hit.annotation_id) for hit in found] == [(index, None, None) for index in range(3)]


def test_a_search_is_found_by_its_fingerprint(filled):
    with filled.session() as session:
        second = search(session, filled.tiles, "two", found=())
        assert [record.id for record in searches(session, fingerprint="two")] == [second]
        assert searches(session, fingerprint="three") == []
        assert [(record.id, record.hits) for record in searches(session)] == [(filled.first, 3), (second, 0)]


def test_an_unknown_search_is_named(filled):
    with filled.session() as session, pytest.raises(BadInput, match="no search 9"):
        hits(session, 9)
