"""What a yes or a no does to the annotations, how it is taken back, and what decisions say of scores."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import set_label_set
from engine.catalog.decisions import ScoreBand, accept_from, decide, dividing_score, score_bands, take_back_last
from engine.catalog.models import add_model
from engine.catalog.reviews import save_review
from engine.catalog.schema import Annotation
from engine.catalog.searches import FoundHit, add_search, hits, searches
from engine.errors import BadInput, NothingToDo, StaleReview, UsageError

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


def test_an_unknown_look_alike_is_named(filled):
    with filled.session() as session, pytest.raises(BadInput, match="no look-alike 99"):
        decide(session, 99, accept=False, label=None, annotator="ana")


def accept_all(workspace, score, expected, label=0):
    with workspace.session() as session:
        return accept_from(session, workspace.first, score, expected=expected, label=label, annotator="ana")


def take_back(workspace, annotator="ana"):
    with workspace.session() as session:
        return take_back_last(session, workspace.first, annotator=annotator)


def decisions(workspace):
    with workspace.session(write=False) as session:
        return [hit.decision for hit in hits(session, workspace.first)]


def test_all_of_a_score_are_accepted_at_once_and_taken_back_at_once(filled):
    say(filled, 0, False, None)
    assert accept_all(filled, 0.5, 2) == 2
    assert decisions(filled) == ["no", "yes", "yes"]
    taken = take_back(filled)
    assert (len(taken.hits), taken.left, decisions(filled)) == (2, 0, ["no", None, None])
    assert annotations(filled) == [SHIP]
    take_back(filled)
    assert decisions(filled) == [None] * 3


def test_nothing_is_accepted_where_there_are_more_or_fewer_than_was_asked_about(filled):
    with pytest.raises(StaleReview, match="2 undecided"):
        accept_all(filled, 0.8, 3)
    assert decisions(filled) == [None] * 3


def test_each_takes_back_what_they_decided_and_no_more(filled):
    say(filled, 0, True)
    with pytest.raises(NothingToDo, match="no decision of yours"):
        take_back(filled, "bo")
    take_back(filled)
    with pytest.raises(NothingToDo):
        take_back(filled)


def test_a_decision_that_somebody_changed_since_is_left(filled):
    say(filled, 0, True)
    with filled.session() as session:
        decide(session, hits(session, filled.first)[0].id, accept=False, label=None, annotator="bo")
    taken = take_back(filled)
    assert (taken.hits, taken.left, decisions(filled)[0]) == ((), 1, "no")


def test_a_no_that_is_taken_back_is_a_yes_again_whose_no_works(filled):
    say(filled, 0, True)
    say(filled, 0, False, None)
    take_back(filled)
    assert (decisions(filled)[0], annotations(filled)) == ("yes", [SHIP, CAR])
    say(filled, 0, False, None)
    assert annotations(filled) == [SHIP]


def test_a_box_that_somebody_moved_stays_when_its_yes_is_taken_back(filled):
    say(filled, 0, True)
    with filled.session() as session:
        moved = Boxes(np.array([[11.0, 10, 30, 30]]), np.array([0]))
        save_review(session, filled.tiles[0], moved, source="browser", annotator="bo", seconds=None, complete=False)
    take_back(filled)
    assert decisions(filled)[0] is None
    assert (11, 10, 30, 30, 0, "search") in annotations(filled)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 1)), max_size=7))
def test_taking_back_everything_leaves_what_was_there_before(filled, acts):
    before = (decisions(filled), annotations(filled))
    steps = []
    for position, accept, label in acts:
        steps.append((decisions(filled), annotations(filled)))
        say(filled, position, accept, label)
    while steps:
        try:
            take_back(filled)
        except NothingToDo:
            break
        now = (decisions(filled), sorted(annotations(filled)))
        while steps and (steps[-1][0], sorted(steps[-1][1])) != now:
            steps.pop()
        assert steps, "every step back is a state that was there"
    assert (decisions(filled), annotations(filled)) == before


def decided(*said):
    return [SimpleNamespace(score=score, position=index, decision=decision) for index, (score, decision) in enumerate(said)]


def test_scores_are_parted_where_the_fewest_decisions_are_wrong():
    found = decided((0.9, "yes"), (0.8, "yes"), (0.7, None), (0.6, "no"), (0.5, "yes"), (0.4, "no"), (0.3, "no"))
    assert dividing_score(found) == pytest.approx(0.7)
    assert dividing_score(decided((0.9, "yes"), (0.8, None))) is None
    assert dividing_score(decided((0.9, "no"), (0.8, "no"))) is None
    assert dividing_score(decided((0.9, "no"), (0.8, "yes"))) == 0.8
    assert dividing_score(decided((0.5, "yes"), (0.5, "no"), (0.4, "no"))) in {0.45, 0.5}


def test_bands_hold_about_as_many_decisions_each_the_surest_first():
    found = decided(*((0.9 - index / 100, "yes" if index < 5 else "no") for index in range(9)), (0.1, None))
    assert score_bands(found) == [
        ScoreBand(pytest.approx(0.88), 0.9, 3, 0),
        ScoreBand(pytest.approx(0.85), pytest.approx(0.87), 2, 1),
        ScoreBand(pytest.approx(0.82), pytest.approx(0.84), 0, 3),
    ]
    assert score_bands(found[:2]) == []


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["yes", "no", None])), max_size=40))
def test_bands_count_every_decision_once(said):
    bands = score_bands(decided(*said))
    known = [decision for _, decision in said if decision]
    assert sum(band.yes + band.no for band in bands) in {0, len(known)}
    assert all(band.low <= band.high and band.yes + band.no >= 3 for band in bands)
