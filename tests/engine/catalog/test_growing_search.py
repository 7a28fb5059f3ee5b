"""Hits of a search that goes on: what is found again keeps its number, what somebody decided on stays."""

import numpy as np
import pytest

from engine.boxes import box_iou
from engine.catalog.annotations import set_label_set
from engine.catalog.decisions import decide
from engine.catalog.growing_search import finish, is_finished, replace_hits, unfinished
from engine.catalog.models import add_model
from engine.catalog.searches import FoundHit, add_search, hits


@pytest.fixture
def filled(workspace, fake):
    """A scene of 128 × 64 px in three tiles that overlap by half, and a search without hits."""
    with workspace.session() as session:
        set_label_set(session, ["car", "ship"])
        _, rows = fake("catalog").add_scene(session, "a.tif", width=128, height=64, tile=64, overlap=32, split="train")
        add_model(session, name="m", stage="pretrain", config={}, data_hash="0")
        workspace.tiles = [row.id for row in rows]
        about = {"fingerprint": "one", "tile_id": workspace.tiles[0], "box_tile": (1.0, 2, 21, 22), "model_id": 1, "config": {}}
        workspace.number = add_search(session, **about, found=[])
    return workspace


def put(workspace, *found):
    """Store (index of the tile, box, score) and give the hits as they stand."""
    with workspace.session() as session:
        replace_hits(session, workspace.number, [FoundHit(workspace.tiles[tile], box, score) for tile, box, score in found])
    with workspace.session(write=False) as session:
        return hits(session, workspace.number)


CAR, SHIP, TREE = (0, (5.0, 5, 25, 25), 0.5), (1, (40.0, 30, 60, 60), 0.4), (2, (1.0, 1, 11, 11), 0.3)


def test_what_is_found_again_keeps_its_number_and_gets_its_new_box_and_place(filled):
    before = put(filled, CAR, SHIP)
    after = put(filled, (1, (41.0, 31, 61, 62), 0.9), TREE, (0, (6.0, 6, 25, 25), 0.2))
    assert [hit.position for hit in after] == [0, 1, 2]
    assert [hit.id for hit in after] == [before[1].id, after[1].id, before[0].id]
    assert after[1].id not in {hit.id for hit in before}
    assert [(hit.box_tile, hit.score) for hit in after] == [((41, 31, 61, 62), 0.9), ((1, 1, 11, 11), 0.3), ((6, 6, 25, 25), 0.2)]


def test_an_object_that_shows_on_another_tile_is_the_same(filled):
    [before] = put(filled, (0, (40.0, 5, 60, 25), 0.5))
    [after] = put(filled, (1, (8.0, 5, 28, 25), 0.6))
    assert (after.id, after.tile.id, after.box_tile) == (before.id, filled.tiles[1], (8, 5, 28, 25))


def test_what_is_not_found_any_more_goes(filled):
    put(filled, CAR, SHIP)
    assert [hit.score for hit in put(filled, SHIP)] == [0.4]
    assert put(filled) == []


@pytest.mark.parametrize("accept", [True, False])
def test_what_somebody_decided_on_stays_as_it_was_decided_on(filled, accept):
    before = put(filled, CAR, SHIP)
    with filled.session() as session:
        decide(session, before[1].id, accept=accept, label=0, annotator="ana")
    moved = put(filled, (1, (42.0, 32, 60, 62), 0.9), CAR)
    assert [(hit.id, hit.box_tile, hit.decision) for hit in moved] == [
        (before[1].id, (40, 30, 60, 60), "yes" if accept else "no"),
        (before[0].id, (5, 5, 25, 25), None),
    ]
    gone = put(filled, CAR)
    assert [hit.id for hit in gone] == [before[1].id, before[0].id]
    assert gone[0].annotation_id == moved[0].annotation_id


def test_the_same_again_changes_nothing(filled):
    found = put(filled, CAR, SHIP, TREE)
    assert put(filled, CAR, SHIP, TREE) == found


def test_any_number_of_hits_in_any_order_ends_in_just_these(filled):
    generator = np.random.default_rng(0)
    for _ in range(20):
        corner = generator.uniform(0, 40, (30, 2))
        boxes = np.hstack([corner, corner + generator.uniform(4, 20, (30, 2))])
        apart = [index for index in range(30) if (box_iou(boxes[:index], boxes[index : index + 1]) < 0.3).all()]
        found = [(0, tuple(boxes[index].tolist()), float(score)) for index, score in zip(apart, np.linspace(1, 0, len(apart)), strict=True)]
        stored = put(filled, *found)
        assert [(hit.box_tile, hit.score, hit.position) for hit in stored] == [
            (box, score, place) for place, (_, box, score) in enumerate(found)
        ]


def test_a_search_is_unfinished_until_it_is_said_to_be(filled):
    with filled.session() as session:
        assert unfinished(session, "one") == filled.number
        assert unfinished(session, "another") is None
        finish(session, filled.number, tile=1, model="m", hits=0)
        assert is_finished(session, filled.number)
        assert not is_finished(session, filled.number + 1)
        assert unfinished(session, "one") is None
