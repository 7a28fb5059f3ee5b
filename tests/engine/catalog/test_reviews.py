"""Saving what a person drew on a tile."""

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import scene_boxes, set_label_set, tile_boxes
from engine.catalog.reviews import ReviewBatch, review_queue, save_review, tile_state
from engine.catalog.rounds import AUDIT, ChosenTile, add_round, get_round, round_tiles, seconds_spent
from engine.catalog.schema import Annotation
from engine.catalog.tiles import tiles
from engine.errors import BadInput, StaleReview

WHO = {"source": "browser", "annotator": "ana", "seconds": 7.0, "complete": False}


def drawn(*boxes, labels=None):
    return Boxes(np.asarray(boxes, dtype=float).reshape(-1, 4), np.asarray(labels if labels is not None else [0] * len(boxes), dtype=int))


@pytest.fixture
def filled(workspace, fake):
    """A scene of 128 × 64 px in two tiles of 64 px; an object across their border, and one in the left tile."""
    with workspace.session() as session:
        set_label_set(session, ["car", "ship"])
        scene, rows = fake("catalog").add_scene(session, "a.tif", width=128, height=64, split="train")
        session.add(Annotation(scene_id=scene.id, x1=40, y1=10, x2=70, y2=30, label=0, source="file"))
        session.add(Annotation(scene_id=scene.id, x1=5.25, y1=5, x2=15, y2=16.5, label=1, source="file"))
        session.flush()
        left, right = (row.id for row in rows)
    return workspace, left, right, scene.id


def accepted(workspace, scene_id):
    with workspace.session(write=False) as session:
        return {tuple(box): label for box, label in zip(*_parts(scene_boxes(session, scene_id)), strict=True)}


def _parts(boxes):
    return boxes.xyxy.tolist(), boxes.labels.tolist()


def test_saving_what_is_shown_changes_nothing_and_keeps_what_lies_outside_the_tile(filled):
    workspace, left, _, scene = filled
    before = accepted(workspace, scene)
    with workspace.session() as session:
        shown = tile_state(session, left)
        assert shown.boxes_tile.xyxy.tolist() == [[40, 10, 64, 30], [5.25, 5, 15, 16.5]]
        saved = save_review(session, left, shown.boxes_tile.shifted(0.04, -0.04), **WHO)
    assert (saved.unchanged, saved.added, saved.moved, saved.relabelled, saved.removed) == (2, 0, 0, 0, 0)
    assert accepted(workspace, scene) == before


def test_a_moved_edge_moves_and_the_edges_outside_the_tile_stay(filled):
    workspace, left, _, scene = filled
    with workspace.session() as session:
        saved = save_review(session, left, drawn((42, 10, 64, 30), (5.25, 5, 15, 16.5), labels=[0, 0]), **WHO)
    assert (saved.moved, saved.relabelled) == (1, 1)
    assert accepted(workspace, scene) == {(42, 10, 70, 30): 0, (5.25, 5, 15, 16.5): 0}


def test_new_boxes_are_added_missing_ones_deleted_and_the_ledger_keeps_what_was(filled):
    workspace, left, _, scene = filled
    with workspace.session() as session:
        saved = save_review(session, left, drawn((40, 10, 64, 30), (20, 40, 30, 60), labels=[0, 1]), **WHO)
        event = ledger.events(session, "review")[-1]
    assert (saved.added, saved.removed, saved.unchanged) == (1, 1, 1)
    assert accepted(workspace, scene) == {(40, 10, 70, 30): 0, (20, 40, 30, 60): 1}
    assert [past["box"] for past in event.details["before"]] == [[5.25, 5, 15, 16.5]]
    with workspace.session(write=False) as session:
        new = session.query(Annotation).filter_by(source="browser").one()
        assert (new.annotator, new.state, new.version) == ("ana", "accepted", 1)


def test_an_object_across_the_border_is_one_object_seen_from_either_tile(filled):
    workspace, _, right, scene = filled
    with workspace.session() as session:
        assert len(tile_state(session, right).boxes_tile) == 0, "less than 40 % of it lies there"
        save_review(session, right, drawn(), **{**WHO, "complete": True})
    assert (40, 10, 70, 30) in accepted(workspace, scene)


def test_boxes_over_the_edge_are_cut_at_the_tile(filled):
    workspace, _, right, scene = filled
    with workspace.session() as session:
        save_review(session, right, drawn((50, -3, 80, 20)), **WHO)
    assert (114, 0, 128, 20) in accepted(workspace, scene)


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        (drawn((70, 10, 90, 20)), "box 1"),
        (drawn((1, 1, 9, 9), (10, 10, 10.4, 30)), "box 2"),
        (drawn((1, 1, 9, 9), labels=[2]), "class number 2"),
        (drawn((1, 1, 9, 9), labels=[-1]), "class number -1"),
    ],
)
def test_what_cannot_be_a_box_is_refused_and_nothing_is_saved(filled, boxes, found):
    workspace, left, _, scene = filled
    before = accepted(workspace, scene)
    with pytest.raises(BadInput, match=found), workspace.session() as session:
        save_review(session, left, boxes, **WHO)
    assert accepted(workspace, scene) == before


def test_two_people_on_one_tile_the_second_is_told_and_nothing_is_overwritten(filled):
    workspace, left, _, scene = filled
    with workspace.session(write=False) as session:
        seen = tile_state(session, left).version
    with workspace.session() as session:
        first = save_review(session, left, drawn((40, 10, 64, 30)), **WHO, expected_version=seen)
    after_first = accepted(workspace, scene)
    with pytest.raises(StaleReview, match=f"tile {left}"), workspace.session() as session:
        save_review(session, left, drawn(), **WHO, expected_version=seen)
    assert accepted(workspace, scene) == after_first
    with workspace.session() as session:
        assert tile_state(session, left).version == first.version
        save_review(session, left, drawn(), **WHO, expected_version=first.version)


def test_a_complete_tile_is_reviewed_empty_or_not_and_its_version_changes(filled):
    workspace, _, right, _ = filled
    with workspace.session() as session:
        before = tile_state(session, right)
        assert not before.reviewed
        save_review(session, right, drawn(), **WHO)
        assert not tile_state(session, right).reviewed
        saved = save_review(session, right, drawn(), **{**WHO, "complete": True})
        after = tile_state(session, right)
    assert (after.reviewed, after.by) == (True, "ana")
    assert saved.version == after.version != before.version


def test_seconds_are_charged_to_the_round_which_is_annotated_when_all_its_tiles_are(filled):
    workspace, left, right, _ = filled
    with workspace.session() as session:
        chosen = [ChosenTile(tile_id, 1.0, 30.0, {}) for tile_id in (right, left)]
        row = add_round(session, budget_seconds=60, strategy="random", seed=0, chosen=chosen)
        assert [tile.id for tile in review_queue(session)] == [right, left], "in the round's order"
        save_review(session, right, drawn(), **WHO)
        save_review(session, right, drawn(), **{**WHO, "complete": True, "seconds": 3.0})
        assert (get_round(session).measured_seconds, get_round(session).state) == (10.0, "ranked")
        assert [tile.id for tile in review_queue(session, round_number=row.number)] == [left]
        save_review(session, left, tile_state(session, left).boxes_tile, **{**WHO, "complete": True, "seconds": None})
        assert (get_round(session).measured_seconds, get_round(session).state) == (10.0, "annotated")
        assert [link.measured_seconds for link in round_tiles(session, row)] == [10.0, None]
        save_review(session, right, drawn(), **{**WHO, "complete": True, "seconds": 12.0}, seconds_in_all=True)
        assert get_round(session).measured_seconds == 12.0
        assert review_queue(session) == []


def answer(session, tile, seconds):
    """What another server says was spent on a tile altogether."""
    save_review(session, tile, drawn(), **{**WHO, "source": "label-studio", "complete": True, "seconds": seconds}, seconds_in_all=True)


def opened(session, tile, strategy):
    return add_round(session, budget_seconds=60, strategy=strategy, seed=0, chosen=[ChosenTile(tile, 1.0, 30.0, {})])


def test_an_answer_that_is_mended_in_an_audit_is_charged_once(filled):
    workspace, _, right, _ = filled
    with workspace.session() as session:
        first = opened(session, right, "random")
        answer(session, right, 40.0)
        audit = opened(session, right, AUDIT)
        answer(session, right, 55.0)
        assert (seconds_spent(session, first), seconds_spent(session, audit)) == (40.0, 15.0)
        answer(session, right, 60.0)
        assert (seconds_spent(session, first), seconds_spent(session, audit)) == (40.0, 20.0)
        answer(session, right, 38.0)
        assert (seconds_spent(session, first), seconds_spent(session, audit), audit.state) == (40.0, 0.0, "annotated")


def test_an_audit_is_not_charged_for_what_was_spent_outside_of_rounds(filled):
    workspace, _, right, _ = filled
    with workspace.session() as session:
        answer(session, right, 40.0)
        audit = opened(session, right, AUDIT)
        for seconds in (55.0, 60.0):
            answer(session, right, seconds)
        assert seconds_spent(session, audit) == 20.0


def test_a_tile_that_moved_to_a_newer_round_is_charged_there_for_the_rest(filled):
    workspace, _, right, _ = filled
    with workspace.session() as session:
        first = opened(session, right, "random")
        save_review(session, right, drawn(), **WHO)
        second = opened(session, right, "random")
        answer(session, right, 30.0)
        assert (seconds_spent(session, first), seconds_spent(session, second)) == (7.0, 23.0)


def test_withheld_boxes_are_neither_shown_nor_touched(filled):
    workspace, left, _, scene = filled
    with workspace.session() as session:
        session.add(Annotation(scene_id=scene, x1=20, y1=40, x2=30, y2=60, label=0, source="file", state="withheld"))
        session.flush()
        assert len(tile_state(session, left).boxes_tile) == 2
        save_review(session, left, drawn(), **{**WHO, "complete": True})
        withheld = tile_boxes(session, tiles(session, ids=[left]), states=("withheld",))[left]
        assert withheld.xyxy.tolist() == [[20, 40, 30, 60]]


def test_an_unknown_tile_is_named(filled):
    workspace, *_ = filled
    with workspace.session(write=False) as session, pytest.raises(BadInput, match="no tile 999"):
        tile_state(session, 999)


def test_tiles_saved_together_see_one_anothers_changes_of_an_object_across_their_border(filled):
    workspace, left, right, scene = filled
    with workspace.session() as session:
        batch = ReviewBatch(session, [left, right])
        save_review(session, left, drawn((55, 10, 64, 30), (5.25, 5, 15, 16.5), labels=[0, 1]), **WHO, batch=batch)
        assert len(tile_state(session, right).boxes_tile) == 1, "with its left edge at 55, two fifths of the object lie on the right tile"
        saved = save_review(session, right, drawn(), **WHO, batch=batch)
    assert saved.removed == 1
    assert accepted(workspace, scene) == {(5.25, 5, 15, 16.5): 1}


def test_an_object_taller_than_all_before_is_found_from_the_tiles_below(workspace, fake):
    with workspace.session() as session:
        set_label_set(session, ["car"])
        _, rows = fake("catalog").add_scene(session, "a.tif", width=64, height=192, split="train")
        ids = [row.id for row in rows]
        batch = ReviewBatch(session, ids)
        save_review(session, ids[1], drawn((5, 5, 15, 15)), **WHO, batch=batch)
        session.query(Annotation).one().y2 = 69 + 100
        batch.write_changed(session.query(Annotation).all())
        assert len(tile_state(session, ids[2]).boxes_tile) == 1
        assert save_review(session, ids[2], drawn(), **WHO, batch=batch).removed == 1


def test_rounds_of_tiles_saved_together_are_summed_up_at_the_end_as_those_saved_alone_are(filled):
    workspace, left, right, _ = filled
    done = {**WHO, "complete": True}
    with workspace.session() as session:
        chosen = [ChosenTile(tile, 1.0, 10.0, {}) for tile in (left, right)]
        add_round(session, budget_seconds=100, strategy="random", seed=0, chosen=chosen)
    with workspace.session() as session:
        batch = ReviewBatch(session, [left, right])
        first = save_review(session, left, drawn(), **done, batch=batch)
        again = save_review(session, left, drawn(), **done, expected_version=first.version, batch=batch)
        assert tile_state(session, left).version == again.version
        assert get_round(session).state == "ranked"
        save_review(session, right, drawn(), **done, batch=batch)
        batch.settle_rounds()
        assert (get_round(session).state, get_round(session).measured_seconds) == ("annotated", 21.0)


def test_a_tile_that_is_not_in_the_batch_is_named_and_may_be_read_later(filled):
    workspace, left, right, _ = filled
    with workspace.session() as session:
        batch = ReviewBatch(session, [left, 999])
        for tile in (right, 999):
            assert tile not in batch
            with pytest.raises(BadInput, match=f"no tile {tile} "):
                save_review(session, tile, drawn(), **WHO, batch=batch)
        batch.read([right])
        save_review(session, right, drawn(), **WHO, batch=batch)
