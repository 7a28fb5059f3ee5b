"""Tiles and scenes page by page."""

import pytest

from engine.catalog.annotations import mark_reviewed, set_label_set, tile_boxes
from engine.catalog.browse import scene_page, tile_page
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation
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


@pytest.fixture
def shown(workspace, fake):
    """Two scenes of four tiles of 64 px; a car on one tile, one over the border of two, a withheld one, and a house on another."""
    with workspace.session() as session:
        set_label_set(session, ["car", "house"])
        first, rows = fake("catalog").add_scene(session, "North/a.tif", width=256, height=64, split="train")
        second, more = fake("catalog").add_scene(session, "south_100%.tif", width=256, height=64, split="test")
        for scene, label, state, box in (
            (first, 0, "accepted", (4, 4, 20, 20)),
            (first, 0, "accepted", (118, 4, 138, 20)),
            (first, 1, "accepted", (70, 4, 90, 20)),
            (second, 0, "withheld", (4, 4, 20, 20)),
            (second, 1, "deleted", (4, 4, 20, 20)),
        ):
            x1, y1, x2, y2 = box
            session.add(Annotation(scene_id=scene.id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source="test", state=state))
        add_round(session, budget_seconds=1.0, strategy="random", seed=0, chosen=[ChosenTile(rows[1].id, 1.0, 1.0, {})])
        mark_reviewed(session, [rows[0].id, more[3].id, more[2].id], by="ana")
    return workspace, [row.id for row in rows], [row.id for row in more]


@pytest.mark.parametrize(
    ("chosen", "first", "second"),
    [
        ({"label": 0}, [0, 1, 2], []),
        ({"label": 1}, [1], []),
        ({"label": 2}, [], []),
        ({"label": 0, "reviewed": False}, [1, 2], []),
        ({"round_number": 1}, [1], []),
        ({"round_number": 1, "label": 1}, [1], []),
        ({"round_number": 2}, [], []),
        ({"scene": "north"}, [0, 1, 2, 3], []),
        ({"scene": "0%."}, [], [0, 1, 2, 3]),
        ({"scene": "a_t"}, [], []),
        ({"scene": "SOUTH", "reviewed": True}, [], [2, 3]),
    ],
)
def test_tiles_are_found_by_what_they_show_their_round_and_their_scene(shown, chosen, first, second):
    workspace, rows, more = shown
    expected = [rows[index] for index in first] + [more[index] for index in second]
    with workspace.session(write=False) as session:
        page = tile_page(session, limit=100, **chosen)
        assert ([tile.id for tile in page.tiles], page.total) == (expected, len(expected))
        one = tile_page(session, limit=1, offset=1, **chosen)
        assert ([tile.id for tile in one.tiles], one.total) == (expected[1:2], len(expected))


def test_tiles_that_show_a_class_are_those_that_have_its_boxes(shown):
    workspace, *_ = shown
    with workspace.session(write=False) as session:
        every = tiles(session)
        of_tiles = tile_boxes(session, every)
        for label in range(2):
            showing = [tile for tile in every if (of_tiles[tile.id].labels == label).any()]
            assert tile_page(session, limit=100, label=label).tiles == showing


def test_scenes_come_page_by_page_with_what_is_known_of_them(shown):
    workspace, *_ = shown
    with workspace.session(write=False) as session:
        page = scene_page(session, limit=1, offset=1)
        assert (page.scenes[0].name, page.total) == ("south_100%.tif", 2)
        assert (page.scenes[0].tiles, page.scenes[0].reviewed, page.scenes[0].boxes) == (4, 2, 0)
        (north,) = scene_page(session, limit=9, scene="NORTH").scenes
        assert (north.width, north.height, north.tiles, north.reviewed, north.boxes) == (256, 64, 4, 1, 3)
        assert scene_page(session, limit=9, scene="_").scenes[0].name == "south_100%.tif"
