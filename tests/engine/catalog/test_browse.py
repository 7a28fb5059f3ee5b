"""Tiles page by page."""

import pytest

from engine.catalog.annotations import mark_reviewed
from engine.catalog.browse import tile_page
from engine.catalog.tiles import tiles


@pytest.fixture
def filled(workspace, fake):
    """Six train tiles, of which two are reviewed, and three test tiles."""
    with workspace.session() as session:
        for split, width in (("train", 6), ("test", 3)):
            _, rows = fake("catalog").add_scene(session, f"{split}.tif", width=64 * width, height=64, split=split)
            if split == "train":
                mark_reviewed(session, [rows[1].id, rows[4].id], by="ana")
    return workspace


@pytest.mark.parametrize(
    ("chosen", "total"),
    [({}, 9), ({"split": "train"}, 6), ({"split": "dev"}, 0), ({"reviewed": True}, 2), ({"split": "train", "reviewed": False}, 4)],
)
def test_pages_join_to_all_tiles_under_the_filter(filled, chosen, total):
    with filled.session(write=False) as session:
        pages = [tile_page(session, limit=2, offset=offset, **chosen) for offset in range(0, 12, 2)]
        assert [tile for page in pages for tile in page.tiles] == tiles(session, **chosen)
        assert {page.total for page in pages} == {total}
        assert max(len(page.tiles) for page in pages) <= 2


def test_a_page_says_which_of_its_tiles_somebody_has_looked_at(filled):
    with filled.session(write=False) as session:
        page = tile_page(session, limit=3)
        assert page.reviewed == {page.tiles[1].id}
        assert tile_page(session, limit=0).tiles == []
