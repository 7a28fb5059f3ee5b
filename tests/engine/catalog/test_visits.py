"""What is known of a visit: the seconds, and what was done to the boxes that were shown."""

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.catalog.annotations import set_label_set
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set
from engine.catalog.reviews import save_review
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.visits import MeasuredVisit, Opening, as_visits, foreseen_tiles, measured_visits, record_visit

WHO = {"source": "browser", "annotator": "ana", "seconds": 7.0, "complete": True}


def drawn(*boxes, labels=None):
    return Boxes(np.asarray(boxes, dtype=float).reshape(-1, 4), np.asarray(labels if labels is not None else [0] * len(boxes), dtype=int))


@pytest.fixture
def filled(workspace, fake):
    """A scene of 128 × 64 px in two tiles of 64 px."""
    with workspace.session() as session:
        set_label_set(session, ["car", "ship"])
        _, rows = fake("catalog").add_scene(session, "a.tif", width=128, height=64, split="train")
        session.flush()
        left, right = (row.id for row in rows)
    return workspace, left, right


def known(workspace):
    with workspace.session(write=False) as session:
        return measured_visits(session)


def test_acts_are_told_from_what_was_shown_and_not_from_what_was_accepted_before(filled):
    workspace, _, right = filled
    shown = drawn((2, 2, 10, 10), (20, 2, 30, 10), (40, 2, 50, 10), (2, 40, 10, 50))
    kept = drawn((2, 2, 10, 10), (21, 2, 30, 10), (40, 2, 50, 10), (30, 30, 60, 60), labels=[0, 0, 1, 0])
    with workspace.session() as session:
        saved = save_review(session, right, kept, **WHO, opening=Opening(shown, seconds=5.0))
    assert (saved.added, saved.unchanged) == (4, 0)
    assert known(workspace) == [MeasuredVisit(right, "ana", "browser", 12.0, verified=1, edited=2, drawn=1, deleted=1)]


def test_an_empty_tile_that_was_only_looked_at_is_a_visit_without_acts(filled):
    workspace, left, _ = filled
    with workspace.session() as session:
        save_review(session, left, drawn(), **WHO, opening=Opening(drawn()))
    assert known(workspace) == [MeasuredVisit(left, "ana", "browser", 7.0, 0, 0, 0, 0)]


@pytest.mark.parametrize("without", [{"complete": False}, {"seconds": None}, {"opening": None}])
def test_what_is_not_complete_or_not_known_is_no_measured_visit(filled, without):
    workspace, left, _ = filled
    with workspace.session() as session:
        save_review(session, left, drawn(), **{**WHO, "opening": Opening(drawn()), **without})
    assert known(workspace) == []


def test_seconds_in_all_stand_in_the_place_of_those_before_at_that_source(filled):
    workspace, left, right = filled
    once = MeasuredVisit(left, "ana", "label-studio", 10.0, 0, 0, 1, 0)
    again = MeasuredVisit(left, "bea", "label-studio", 25.0, 0, 0, 2, 0)
    elsewhere = MeasuredVisit(left, "ana", "browser", 3.0, 1, 0, 0, 0)
    other = MeasuredVisit(right, "ana", "label-studio", 9.0, 0, 0, 1, 0)
    with workspace.session() as session:
        for visit in (once, other, again):
            record_visit(session, visit, in_all=True)
        for _ in range(2):
            record_visit(session, elsewhere)
    assert known(workspace) == [again, other, elsewhere, elsewhere]


def test_the_cost_model_reads_them_in_their_order(filled):
    _, left, right = filled
    visits = as_visits([MeasuredVisit(left, "a", "b", 10.0, 1, 2, 3, 4), MeasuredVisit(right, "a", "b", 20.0, 5, 6, 7, 8)])
    assert visits.seconds.tolist() == [10, 20]
    assert visits.acts.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert len(as_visits([]).seconds) == 0


def test_foreseen_tiles_are_those_that_a_detector_or_none_foresaw_and_somebody_visited(filled):
    workspace, left, right = filled

    def expecting(missed):
        return {"expected_boxes": {"sure": 1.0, "medium": 2.0, "missed": missed}}

    visits = [MeasuredVisit(tile, "ana", "browser", 9.0, 0, 0, 1, 0) for tile in (right, left, right)]
    with workspace.session() as session:
        by = {"config": {}, "data_hash": "0" * 64}
        sets = [
            add_prediction_set(session, name=stage, model=add_model(session, name=stage, stage=stage, **by), tiles=2).id
            for stage in ("finetune", "pretrain")
        ]
        rounds = [(None, expecting(8.0), right), (sets[0], {}, left), (sets[1], expecting(4.0), left), (sets[0], expecting(0.5), right)]
        for predictions, reasons, tile in rounds:
            chosen = [ChosenTile(tile, 1.0, 30.0, reasons)]
            add_round(session, budget_seconds=60, strategy="random", seed=0, chosen=chosen, prediction_set_id=predictions)
        again = [ChosenTile(tile, 1.0, 9.0, {"why": "the detector disagrees"}) for tile in (left, right)]
        add_round(session, budget_seconds=60, strategy="audit", seed=0, chosen=again, prediction_set_id=sets[0])
        seen, blind = (foreseen_tiles(session, visits, detector=detector) for detector in (True, False))
        assert len(foreseen_tiles(session, [], detector=False).missed) == 0
    assert (seen.missed.tolist(), seen.rounds.tolist(), seen.visits.tolist()) == ([0.5], [4], [0])
    assert (blind.missed.tolist(), blind.rounds.tolist(), blind.visits.tolist()) == ([4.0], [3], [1])
