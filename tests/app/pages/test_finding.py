"""What the page Find does, without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import pytest

from app.pages.finding import Actions, Asked
from engine.catalog.annotations import set_label_set, tile_boxes
from engine.catalog.decisions import decide
from engine.catalog.growing_search import replace_hits
from engine.catalog.models import add_model
from engine.catalog.rounds import get_round, round_tiles
from engine.catalog.schema import Annotation
from engine.catalog.searches import FoundHit, add_search, hits
from engine.catalog.tiles import tiles
from engine.errors import BadInput, NothingToDo, StaleReview, UsageError

ASKED, SHOWN, GALLERY, STANDING, SLIDER, ALL, NEWS = range(7)
ANA = SimpleNamespace(username="ana")


@pytest.fixture
def found(context):
    """A search with three look-alikes on three tiles."""
    with context.workspace.session() as session:
        set_label_set(session, ["car", "ship"])
        known = tiles(session, split="train")
        model = add_model(session, name="p", stage="pretrain", config={}, data_hash="0" * 64)
        answers = [FoundHit(tile.id, (4.0, 4.0, 12.0, 12.0), 0.9 - index / 10) for index, tile in enumerate(known[1:4])]
        number = add_search(
            session,
            fingerprint="f",
            tile_id=known[0].id,
            box_tile=(1.0, 1.0, 9.0, 9.0),
            model_id=model.id,
            config={},
            found=answers,
        )
        return context, number, [hit.id for hit in hits(session, number)]


def test_a_box_on_the_enlarged_tile_becomes_a_search_in_tile_pixels(context):
    actions = Actions(context)
    tile, picture, _ = actions.open(None)
    zoom = picture["value"]["image"].width // 32
    assert zoom > 1
    box = {"xmin": 2.5 * zoom, "ymin": 3 * zoom, "xmax": 10 * zoom, "ymax": 12 * zoom}
    newest, news = actions.start({"boxes": [box]}, tile, 40)
    assert (newest, "queued" in news) == (0, True)
    (job,) = context.jobs.queued
    assert (job.verb, job.config) == ("search", {"tile": tile, "box": [2.5, 3.0, 10.0, 12.0], "hits": 40})


@pytest.mark.parametrize("boxes", [[], [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}] * 2])
def test_one_box_it_must_be(context, boxes):
    with pytest.raises(UsageError, match="expected one box"):
        Actions(context).start({"boxes": boxes}, 1, 40)
    assert context.jobs.queued == []


def opened(context, search):
    """The page on a search: what it does, and what is asked first."""
    actions = Actions(context)
    return actions, actions.look(search)[ASKED]


def decisions(context, search):
    with context.workspace.session(write=False) as session:
        return [hit.decision for hit in hits(session, search)]


def test_yes_makes_a_box_and_the_next_look_alike_is_asked(found):
    context, search, (first, second, _) = found
    actions, asked = opened(context, search)
    assert asked.hit == first
    answer = actions.accept(asked, "ship", None, ANA)
    assert answer[ASKED].hit == second
    assert "1 of 3 decided: 1 yes, 0 no" in answer[STANDING]
    with context.workspace.session(write=False) as session:
        tile = hits(session, search)[0].tile
        boxes = tile_boxes(session, [tile])[tile.id]
        assert [row.annotator for row in session.query(Annotation)] == ["ana"]
    assert (boxes.xyxy.tolist(), boxes.labels.tolist()) == ([[4, 4, 12, 12]], [1])


def test_no_sets_aside_and_next_and_back_pass_over_what_is_decided(found):
    context, search, (first, second, third) = found
    actions, asked = opened(context, search)
    asked = actions.refuse(actions.move(asked, 1)[ASKED])[ASKED]
    assert (asked.hit, decisions(context, search)) == (third, [None, "no", None])
    assert actions.move(asked, 1)[ASKED].hit == first, "behind the last it begins anew"
    assert actions.move(asked, -1)[ASKED].hit == first
    answer = actions.refuse(actions.refuse(asked)[ASKED])
    assert answer[ASKED].hit is None
    assert "All 3 look-alikes are decided" in answer[SHOWN]
    assert answer[GALLERY].count("/hits/") == 3
    assert second in {int(part.split(".")[0]) for part in answer[GALLERY].split("/hits/")[1:]}


@pytest.mark.parametrize("label", [None, "plane"])
def test_a_yes_needs_a_class(found, label):
    context, search, _ = found
    actions, asked = opened(context, search)
    with pytest.raises(BadInput, match="no class"):
        actions.accept(asked, label)
    with pytest.raises(BadInput, match="no class"):
        actions.ask_for_all(asked, label)


def test_a_decision_counts_the_seconds_since_the_last(found):
    context, search, _ = found
    actions, asked = opened(context, search)
    asked = actions.accept(asked, "car", 7.0, ANA)[ASKED]
    answer = actions.refuse(asked, 10.0, ANA)
    assert "10 s, 5.0 s each" in answer[STANDING]


def test_the_last_decision_is_taken_back_and_asked_again(found):
    context, search, (first, *_) = found
    actions, asked = opened(context, search)
    answer = actions.take_back(actions.accept(asked, "car", None, ANA)[ASKED], ANA)
    assert (answer[ASKED].hit, decisions(context, search)) == (first, [None] * 3)
    with pytest.raises(NothingToDo, match="no decision of yours"):
        actions.take_back(answer[ASKED], ANA)


def test_what_scores_less_is_hidden_until_the_slider_is_back(found):
    context, search, _ = found
    actions, asked = opened(context, search)
    answer = actions.limit(asked, 0.75)
    assert answer[GALLERY].count("/hits/") == 2
    assert "1 below the score are hidden" in answer[STANDING]
    assert (answer[SLIDER]["minimum"], answer[SLIDER]["maximum"], answer[SLIDER]["value"]) == (0.7, 0.9, 0.75)
    assert answer[ALL]["value"] == "Yes to all 2 …"
    assert actions.limit(answer[ASKED], 0.7)[ASKED].score == 0.0
    done = actions.refuse(actions.refuse(answer[ASKED])[ASKED])
    assert "1 look-alike below the score wait" in done[SHOWN]


def test_all_above_the_score_are_accepted_after_the_number_was_confirmed(found):
    context, search, _ = found
    actions, asked = opened(context, search)
    asked = actions.limit(asked, 0.75)[ASKED]
    confirmed, dialog, question, _ = actions.ask_for_all(asked, "ship")
    assert (confirmed, dialog["visible"]) == ((2, 0.75), True)
    assert "2 look-alikes" in question
    answer = actions.accept_all(asked, confirmed, "ship", ANA)
    assert decisions(context, search) == ["yes", "yes", None]
    actions.take_back(answer[ASKED], ANA)
    assert decisions(context, search) == [None] * 3


def test_a_number_that_is_no_longer_true_is_not_confirmed(found):
    context, search, (first, *_) = found
    actions, asked = opened(context, search)
    confirmed, *_ = actions.ask_for_all(asked, "ship")
    with context.workspace.session() as session:
        decide(session, first, accept=False, label=None, annotator="bo")
    with pytest.raises(StaleReview, match="expected the 3"):
        actions.accept_all(asked, confirmed, "ship", ANA)
    assert decisions(context, search) == ["no", None, None]


def test_near_misses_become_a_round(found):
    context, search, _ = found
    actions, asked = opened(context, search)
    asked = actions.limit(asked, 0.78)[ASKED]
    assert "Round 1: 2 tiles with scores 0.70 to 0.80 around 0.78" in actions.send(asked, 2)
    with context.workspace.session(write=False) as session:
        assert [link.score for link in round_tiles(session, get_round(session))] == [pytest.approx(0.8), pytest.approx(0.7)]


def test_what_a_search_finds_meanwhile_appears_and_the_one_that_is_asked_stays(found):
    context, search, (first, second, _) = found
    actions, asked = opened(context, search)
    asked = actions.move(asked, 1)[ASKED]
    assert actions.grown(asked)[0] == gr.skip()
    with context.workspace.session() as session:
        known = hits(session, search)
        more = [FoundHit(known[0].tile.id, (20.0, 20.0, 30.0, 30.0), 0.99)]
        replace_hits(session, search, [*more, *(FoundHit(hit.tile.id, hit.box_tile, hit.score) for hit in known)])
    answer = actions.grown(asked)
    assert (answer[ASKED].hit, answer[ASKED].known) == (second, 4)
    assert "0 of 4 decided" in answer[STANDING]
    assert actions.move(answer[ASKED], -1)[ASKED].hit == first
    assert actions.grown(answer[ASKED])[0] == gr.skip()


def test_searches_and_classes_are_offered_and_the_search_that_is_looked_at_stays(found):
    context, search, _ = found
    actions = Actions(context)
    shown, label, awaited, fold = actions.refresh(None, None, None)
    assert (shown["value"], label["value"], label["choices"], awaited, fold) == (search, "car", ["car", "ship"], None, gr.skip())
    assert actions.refresh("ship", search, None)[1]["value"] == "ship"
    assert actions.arrived("ship", search, search)[0] == gr.skip()
    with context.workspace.session() as session:
        asked = {"tile_id": 1, "box_tile": (1.0, 1.0, 9.0, 9.0), "model_id": 1, "config": {}, "found": []}
        newer = add_search(session, fingerprint="g", **asked)
    assert actions.refresh("ship", search, None)[0]["value"] == search, "somebody else's search"
    shown, _, awaited, fold = actions.arrived("ship", search, search)
    assert (shown["value"], awaited, fold["open"]) == (newer, None, False)


def test_without_a_search_it_says_what_to_do(context):
    actions = Actions(context)
    assert "draw a box" in actions.look(None)[SHOWN]
    for act in (actions.refuse, actions.take_back, lambda asked: actions.send(asked, 3)):
        with pytest.raises(UsageError, match=r"no look-alike|no search"):
            act(Asked())
    refused = context.answer(actions.look, outputs=actions.OUTPUTS)(99)
    assert refused[ASKED] == gr.skip()
    assert "no search 99" in refused[NEWS]


def test_the_tile_that_the_address_names_is_unfolded(found):
    context, _, _ = found
    with context.workspace.session(write=False) as session:
        tile = tiles(session, split="train")[1].id
    actions = Actions(context)
    number, _, fold, _ = actions.visit(SimpleNamespace(query_params={"tile": str(tile)}))
    assert (number, fold["open"]) == (tile, True)
    assert actions.visit(SimpleNamespace(query_params={}))[2]["open"] is False
