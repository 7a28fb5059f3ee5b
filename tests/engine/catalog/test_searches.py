"""Searches and their hits, and what a yes or a no does to the annotations."""

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import set_label_set
from engine.catalog.models import add_model
from engine.catalog.reviews import save_review
from engine.catalog.schema import Annotation
from engine.catalog.searches import FoundHit, add_search, decide, hits, searches
from engine.errors import BadInput, UsageError

FOUND = ((0, (10.0, 10, 30, 30), 0.9), (1, (20.0, 20, 40, 44), 0.8), (1, (50.0, 40, 70, 60), 0.5))
"""Index of the tile, box in it, score: the last one reaches over the edge of scene and tile."""


@pytest.fixture
def filled(workspace, fake):
    """A scene of 128 × 64 px in two tiles, a search with three hits, and an accepted ship at the place of the second."""
    with workspace.session() as session:
        set_label_set(session, ["car", "ship"])
        scene, rows = fake("catalog").add_scene(session, "a.tif", width=128, height=64, split="train")
        session.add(Annotation(scene_id=scene.id, x1=85, y1=20, x2=105, y2=43, label=1, source="file"))
        add_model(session, name="m", stage="pretrain", config={}, data_hash="0")
        tiles = [row.id for row in rows]
        workspace.first = search(session, tiles, "one")
        workspace.tiles, workspace.scene_id = tiles, scene.id
    return workspace


def search(session, tiles, fingerprint, found=FOUND):
    stored = [FoundHit(tiles[index], box, score) for index, box, score in found]
    return add_search(
        session, fingerprint=fingerprint, tile_id=tiles[0], box_tile=(1.0, 2, 21, 22), model_id=1, config={"hits": 3}, found=stored
    )


def say(workspace, position, accept, label=0, *, search_id=None):
    with workspace.session() as session:
        hit = hits(session, search_id or workspace.first)[position]
        return decide(session, hit.id, accept=accept, label=label, annotator="ana")


def annotations(workspace, state="accepted"):
    with workspace.session(write=False) as session:
        rows = session.query(Annotation).filter(Annotation.state == state).order_by(Annotation.id)
        return [(row.x1, row.y1, row.x2, row.y2, row.label, row.source) for row in rows]


SHIP = (85, 20, 105, 43, 1, "file")
CAR = (10, 10, 30, 30, 0, "search")


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


def test_a_yes_makes_one_box_in_scene_pixels_however_often_it_is_said(filled):
    records = [say(filled, 0, True) for _ in range(2)]
    assert annotations(filled) == [SHIP, CAR]
    assert records[0] == records[1]
    assert records[0].decision == "yes"


def test_a_yes_is_clipped_to_the_scene(filled):
    say(filled, 2, True)
    assert annotations(filled)[1][:4] == (114, 40, 128, 60)


def test_a_yes_to_an_object_that_is_annotated_means_that_annotation(filled):
    hit = say(filled, 1, True, label=1)
    assert annotations(filled) == [SHIP]
    assert hit.annotation_id == 1


def test_a_yes_to_an_object_annotated_as_another_class_makes_a_box(filled):
    say(filled, 1, True, label=0)
    assert annotations(filled) == [SHIP, (84, 20, 104, 44, 0, "search")]


def test_a_yes_with_another_class_relabels_what_the_search_made(filled):
    say(filled, 0, True, label=0)
    say(filled, 0, True, label=1)
    assert annotations(filled) == [SHIP, (*CAR[:4], 1, "search")]


def test_a_no_after_a_yes_takes_back_what_the_search_made(filled):
    say(filled, 0, True)
    hit = say(filled, 0, False, None)
    assert (hit.decision, hit.annotation_id) == ("no", None)
    assert (annotations(filled), annotations(filled, "deleted")) == ([SHIP], [CAR])


def test_a_no_after_a_yes_leaves_a_box_that_was_there_before(filled):
    say(filled, 1, True, label=1)
    say(filled, 1, False, None)
    assert (annotations(filled), annotations(filled, "deleted")) == ([SHIP], [])


def test_a_no_leaves_a_box_that_somebody_changed_since(filled):
    say(filled, 0, True)
    with filled.session() as session:
        moved = Boxes(np.array([[11.0, 10, 30, 30]]), np.array([0]))
        save_review(session, filled.tiles[0], moved, source="browser", annotator="bo", seconds=None, complete=False)
    say(filled, 0, False, None)
    assert (11, 10, 30, 30, 0, "search") in annotations(filled)


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_what_two_searches_mean_goes_with_the_last_yes(filled, order):
    with filled.session() as session:
        ids = {"one": filled.first, "two": search(session, filled.tiles, "two")}
    for name in ("one", "two"):
        say(filled, 0, True, search_id=ids[name])
    assert annotations(filled) == [SHIP, CAR]
    say(filled, 0, False, None, search_id=ids[order[0]])
    assert annotations(filled) == [SHIP, CAR]
    say(filled, 0, False, None, search_id=ids[order[1]])
    assert annotations(filled) == [SHIP]


def test_yes_no_yes_leaves_one_box(filled):
    for accept in (True, False, False, True, True):
        say(filled, 0, accept)
    assert annotations(filled) == [SHIP, CAR]
    with filled.session(write=False) as session:
        assert searches(session)[0].yes == 1
        assert [event.details["decision"] for event in ledger.events(session, "search-decision")] == ["yes", "no", "yes"]


def test_a_yes_after_somebody_deleted_its_box_makes_it_anew(filled):
    say(filled, 0, True)
    with filled.session() as session:
        save_review(session, filled.tiles[0], Boxes.empty(), source="browser", annotator="bo", seconds=None, complete=False)
    assert annotations(filled) == [SHIP]
    say(filled, 0, True)
    assert annotations(filled) == [SHIP, CAR]


@pytest.mark.parametrize(
    ("accept", "label", "error", "match"),
    [(True, None, UsageError, "a yes without a class"), (True, 2, BadInput, "class number 2"), (True, -1, BadInput, "class number -1")],
)
def test_a_yes_needs_a_class_of_the_workspace(filled, accept, label, error, match):
    with pytest.raises(error, match=match):
        say(filled, 0, accept, label)
    assert annotations(filled) == [SHIP]


def test_unknown_numbers(filled):
    with filled.session() as session, pytest.raises(BadInput, match="no search 9"):
        hits(session, 9)
    with filled.session() as session, pytest.raises(BadInput, match="no look-alike 99"):
        decide(session, 99, accept=False, label=None, annotator="ana")
