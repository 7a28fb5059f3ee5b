"""What the review page does, without a browser."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from app.pages.reviewing import Actions, asked_tile
from app.pages.tile_versions import with_history
from engine.catalog.annotations import set_label_set
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.reviews import review_queue, tile_state
from engine.catalog.rounds import ChosenTile, add_round, get_round
from engine.catalog.searches import FoundHit, add_search
from engine.catalog.tiles import tiles
from engine.catalog.visits import measured_visits
from engine.errors import BadInput, NothingToDo, StaleReview, UsageError
from engine.inference.predictions import Predictions

NUMBER, PICTURE, ABOUT, OPENED, QUEUE, CLASS, NAMING, CLASSES, FACTS, HISTORY, NEWS = range(11)


@pytest.fixture
def named(context):
    with context.workspace.session() as session:
        set_label_set(session, ["car", "ship"])
    return context


@pytest.fixture
def actions(named):
    ticks = itertools.count(100, 5)
    return Actions(named, clock=lambda: float(next(ticks)))


def train_ids(context):
    with context.workspace.session(write=False) as session:
        return [tile.id for tile in tiles(session, split="train")]


def drawing(opened, *boxes, label="car"):
    return {
        "boxes": [
            dict(zip(("xmin", "ymin", "xmax", "ymax"), (side * opened.zoom for side in box), strict=True), label=label) for box in boxes
        ]
    }


def state(context, tile_id):
    with context.workspace.session(write=False) as session:
        return tile_state(session, tile_id)


def test_a_box_is_saved_exactly_and_the_tile_stays_open(named, actions):
    tile = train_ids(named)[0]
    opened = actions.open(tile, 0.3)[OPENED]
    answer = actions.save(drawing(opened, (2.25, 3.5, 12.125, 14)), opened, None)
    assert "1 added" in answer[NEWS]
    assert answer[PICTURE] == gr.skip()
    assert state(named, tile).boxes_tile.xyxy.tolist() == [[2.25, 3.5, 12.125, 14]]
    assert not state(named, tile).reviewed
    again = actions.save(drawing(opened, (2.25, 3.5, 12.125, 14)), answer[OPENED], None)
    assert "1 unchanged" in again[NEWS]


def test_a_complete_tile_is_reviewed_with_its_seconds_and_the_next_one_opens(named, actions):
    first, second, *_ = train_ids(named)
    with named.workspace.session() as session:
        add_round(
            session,
            budget_seconds=60,
            strategy="random",
            seed=0,
            chosen=[ChosenTile(tile, 1.0, 30.0, {}) for tile in (second, first)],
        )
    opened = actions.open(None, 0.3)[OPENED]
    assert opened.tile_id == second, "the first of the round"
    answer = actions.complete(drawing(opened), opened, "car", 0.3, request=SimpleNamespace(username="ana"))
    assert answer[NUMBER] == first
    assert state(named, second).by == "ana"
    assert (state(named, second).reviewed, len(state(named, second).boxes_tile)) == (True, 0)
    with named.workspace.session(write=False) as session:
        assert get_round(session).measured_seconds == 5.0
        assert second not in [tile.id for tile in review_queue(session)]


def visits(context):
    with context.workspace.session(write=False) as session:
        return [(visit.tile, visit.seconds, visit.verified, visit.edited, visit.drawn, visit.deleted) for visit in measured_visits(session)]


def test_a_pause_is_no_work(named):
    """By the clock a minute between each two answers; the browser counted seven seconds, then three."""
    ticks = itertools.count(100, 60)
    actions = Actions(named, clock=lambda: float(next(ticks)))
    tile = train_ids(named)[0]
    opened = actions.open(tile, 0.3, None, 12.0)[OPENED]
    saved = actions.save(drawing(opened, (2, 2, 9, 9)), opened, None, 19.0)[OPENED]
    actions.complete(drawing(opened, (2, 2, 9, 9)), saved, None, 0.3, 22.0)
    assert visits(named) == [(tile, 10.0, 0, 0, 1, 0)]


@pytest.mark.parametrize(("count", "seconds"), [(None, 5.0), (float("nan"), 5.0), (1e9, 5.0), (-1e9, 0.0)])
def test_a_browser_that_counts_nothing_or_nonsense_is_held_to_the_clock(named, actions, count, seconds):
    tile = train_ids(named)[0]
    opened = actions.open(tile, 0.3, None, 12.0)[OPENED]
    actions.complete(drawing(opened), opened, None, 0.3, count)
    assert visits(named) == [(tile, seconds, 0, 0, 0, 0)]


def test_a_visit_tells_suggestions_that_were_accepted_moved_and_deleted_from_boxes_that_were_drawn(named, actions):
    tile = train_ids(named)[0]
    predict(named, tile, ((1, 1, 9, 9), 0.9), ((20, 1, 28, 9), 0.8), ((1, 20, 9, 28), 0.7))
    opened = actions.open(tile, 0.3)[OPENED]
    boxes = ((1, 1, 9, 9), (21, 1, 29, 9), (20, 20, 28, 28))
    saved = actions.save(drawing(opened, *boxes, label="ship"), opened, None)[OPENED]
    assert visits(named) == [], "not complete yet"
    actions.complete(drawing(saved, *boxes, label="ship"), saved, None, 0.3)
    assert visits(named) == [(tile, 10.0, 1, 1, 1, 1)]


def test_a_tile_completed_once_more_is_another_visit(named, actions):
    for tile in train_ids(named):
        opened = actions.open(tile, 0.3)[OPENED]
        answer = actions.complete(drawing(opened, (2, 2, 9, 9)), opened, None, 0.3)
    still_open = answer[OPENED]
    actions.complete(drawing(still_open, (2, 2, 9, 9), (12, 12, 19, 19)), still_open, None, 0.3)
    assert visits(named)[-2:] == [(tile, 5.0, 0, 0, 1, 0), (tile, 5.0, 1, 0, 1, 0)]


def test_two_tabs_the_second_to_save_is_told_and_keeps_its_drawing(named, actions):
    tile = train_ids(named)[0]
    one, other = actions.open(tile, 0.3)[OPENED], actions.open(tile, 0.3)[OPENED]
    actions.save(drawing(one, (2, 2, 9, 9)), one, None)
    with pytest.raises(StaleReview):
        actions.save(drawing(other, (20, 20, 29, 29)), other, None)
    answer = named.answer(actions.save, outputs=actions.OUTPUTS, changes=True)(drawing(other, (20, 20, 29, 29)), other, None)
    assert answer[PICTURE] == gr.skip()
    assert "Open the tile again" in answer[NEWS]
    assert state(named, tile).boxes_tile.xyxy.tolist() == [[2, 2, 9, 9]]


def test_classes_are_named_once(context):
    actions = Actions(context)
    opened = actions.open(None, 0.3)
    assert opened[NAMING]["visible"] is True
    with pytest.raises(UsageError, match="no classes"):
        actions.save({"boxes": []}, opened[OPENED], None)
    answer = actions.name_classes("car,  ship ,")
    assert (answer[NAMING]["visible"], answer[CLASS]["value"]) == (False, "car")
    assert answer[PICTURE]["label_list"] == ["car", "ship"]
    assert "value" not in answer[PICTURE], "what was drawn before stays"
    assert answer[OPENED] == gr.skip()
    saved = actions.save(drawing(opened[OPENED], (2, 2, 9, 9), label=""), opened[OPENED], "car")
    assert "1 added" in saved[NEWS]
    with pytest.raises(BadInput):
        actions.name_classes("plane")


def predict(context, tile_id, *boxes):
    found = Predictions(
        tile_ids=np.array([tile_id]),
        embeddings=np.zeros((1, 2), dtype=np.float32),
        tile_index=np.zeros(len(boxes), dtype=np.int64),
        boxes_tile=np.array([box for box, _ in boxes], dtype=np.float32),
        labels=np.ones(len(boxes), dtype=np.int64),
        scores=np.array([score for _, score in boxes], dtype=np.float32),
        class_scores=np.array([[0, score] for _, score in boxes], dtype=np.float32),
        drift=np.zeros(len(boxes), dtype=np.float32),
    )
    found.save(predictions_directory(context.workspace, "d-train"))
    with context.workspace.session() as session:
        fingerprint = set_label_set(session, ["car", "ship"]).fingerprint
        model = add_model(session, name="d", stage="finetune", config={}, data_hash="0" * 64, label_set_fingerprint=fingerprint)
        add_prediction_set(session, name="d-train", model=model, tiles=1)


def test_suggestions_are_shown_above_the_threshold_until_somebody_has_looked(named, actions):
    tile = train_ids(named)[0]
    predict(named, tile, ((1, 1, 9, 9), 0.9), ((20, 20, 28, 28), 0.2))
    opened = actions.open(tile, 0.3)
    assert [box["label"] for box in opened[PICTURE]["value"]["boxes"]] == ["ship"]
    assert len(actions.open(tile, 0.1)[PICTURE]["value"]["boxes"]) == 2
    saved = actions.save(drawing(opened[OPENED], (1, 1, 9, 9), label="ship"), opened[OPENED], None)
    assert len(actions.open(tile, 0.3)[PICTURE]["value"]["boxes"]) == 1, "accepted: not suggested once more"
    actions.complete(drawing(saved[OPENED]), saved[OPENED], None, 0.3)
    assert actions.open(tile, 0.1)[PICTURE]["value"]["boxes"] == []


def test_next_goes_on_behind_the_open_tile_and_begins_anew_at_the_end(named, actions):
    first, second, *_, last = train_ids(named)
    assert actions.following(actions.open(first, 0.3)[OPENED], 0.3)[NUMBER] == second
    assert actions.following(actions.open(last, 0.3)[OPENED], 0.3)[NUMBER] == first


def test_an_unknown_tile_and_an_empty_queue_say_what_to_do(named, actions):
    with pytest.raises(BadInput, match="no tile 99999"):
        actions.open(99999, 0.3)
    for tile in train_ids(named):
        opened = actions.open(tile, 0.3)[OPENED]
        answer = actions.complete(drawing(opened), opened, None, 0.3)
    assert "No further tile waits" in answer[NEWS]
    with pytest.raises(NothingToDo, match="no tile waits"):
        actions.open(None, 0.3)


@pytest.mark.parametrize(("asked", "tile"), [("12", 12), ("", None), ("-1", None), ("1" * 19, None), ("12<script>", None), ("²", None)])
def test_the_address_names_a_tile_or_none(asked, tile):
    assert asked_tile(SimpleNamespace(query_params={"tile": asked})) == tile


def test_previous_goes_back_over_the_tiles_that_were_open_however_often_one_was_saved(named, actions):
    first, second, third, *_ = train_ids(named)
    one = actions.open(first, 0.3)[OPENED]
    one = actions.save(drawing(one, (2, 2, 9, 9)), one, None)[OPENED]
    two = actions.open(second, 0.3, one)[OPENED]
    two = actions.open(second, 0.5, two)[OPENED]
    three = actions.open(third, 0.3, two)[OPENED]
    back = actions.previous(three, 0.3)
    assert back[NUMBER] == second
    back = actions.previous(back[OPENED], 0.3)
    assert (back[NUMBER], back[OPENED].trail) == (first, ())
    with pytest.raises(NothingToDo, match="no tile was open before"):
        actions.previous(back[OPENED], 0.3)


def test_the_browser_is_told_what_is_open_and_what_was_saved(named, actions):
    first, second, *_ = train_ids(named)
    ana = SimpleNamespace(username="ana")
    opened = actions.open(first, 0.3, request=ana)
    assert (opened[FACTS]["tile"], opened[FACTS]["by"], opened[FACTS]["fresh"], opened[FACTS]["saved"]) == (first, "ana", True, None)
    saved = actions.save(drawing(opened[OPENED]), opened[OPENED], None, request=ana)
    assert (saved[FACTS]["fresh"], saved[FACTS]["saved"]) == (False, opened[FACTS]["key"])
    assert saved[FACTS]["stamp"] != opened[FACTS]["stamp"]
    following = actions.complete(drawing(saved[OPENED]), saved[OPENED], None, 0.3, request=ana)
    assert (following[FACTS]["tile"], following[FACTS]["fresh"], following[FACTS]["saved"]) == (second, True, opened[FACTS]["key"])
    assert following[FACTS]["key"] != opened[FACTS]["key"]
    assert following[OPENED].trail == (first,)


def test_classes_are_shown_with_their_digits_and_colours(named, actions):
    legend = actions.open(None, 0.3)[CLASSES]
    assert '<li data-class="car" data-colour="#e6194b"><kbd>1</kbd>' in legend
    assert legend.index("car") < legend.index("ship")


def test_going_back_saves_an_earlier_version_as_the_newest(named, actions):
    tile = train_ids(named)[0]
    opened = actions.open(tile, 0.3)[OPENED]
    first = actions.save(drawing(opened, (2, 2, 9, 9)), opened, None)[OPENED]
    second = actions.save(drawing(first, (12, 12, 19, 19)), first, None)[OPENED]
    table, choice = with_history(named, tile)
    assert table.count("<tr>") == 4, "two saves and what the first found, under the head"
    number = choice["choices"][0][1]
    with pytest.raises(StaleReview):
        actions.go_back(number, first, 0.3)
    answer = actions.go_back(number, second, 0.3)
    assert f"Tile {tile} is as local saved it" in answer[NEWS]
    assert state(named, tile).boxes_tile.xyxy.tolist() == [[2, 2, 9, 9]]
    assert len(with_history(named, tile)[1]["choices"]) == 3
    with pytest.raises(UsageError, match="no version"):
        actions.go_back(None, second, 0.3)


def test_a_tile_that_nobody_saved_has_no_history(named):
    table, choice = with_history(named, train_ids(named)[0])
    assert ("Nobody has saved" in table, choice["choices"]) == (True, [])
    assert "No tile is open" in with_history(named, None)[0]


def test_why_a_tile_was_chosen_is_said_with_the_look_alike_in_question(named, actions):
    tile = train_ids(named)[0]
    reasons = {"why": "Search 1 is unsure <b>here</b>.", "hits": [1, 7]}
    with named.workspace.session() as session:
        model = add_model(session, name="seeker", stage="pretrain", config={}, data_hash="0" * 64)
        asked = {"fingerprint": "f", "tile_id": train_ids(named)[1], "box_tile": (0.0, 0.0, 9.0, 9.0), "model_id": model.id, "config": {}}
        add_search(session, **asked, found=[FoundHit(tile, (2.0, 2.0, 9.0, 9.0), 0.5)])
        add_round(session, budget_seconds=60, strategy="look-alikes", seed=0, chosen=[ChosenTile(tile, 0.5, 30.0, reasons)])
    opened = actions.open(tile, 0.3)
    assert "Search 1 is unsure &lt;b&gt;here" in opened[ABOUT]
    assert "/hits/1.png" in opened[ABOUT]
    assert "/hits/7.png" not in opened[ABOUT], "it is there no longer"
    done = actions.save(drawing(opened[OPENED]), opened[OPENED], None)
    assert "/hits/1.png" in done[ABOUT], "the tile is not complete yet"
