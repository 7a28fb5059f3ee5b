"""What the page Find does, without a browser."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import gradio as gr
import pytest
from sqlalchemy import update

from app.pages.find import add
from app.pages.finding import Actions, Asked, Awaited, Many
from app.pages.hit_cards import STEP
from engine.catalog.annotations import set_label_set, tile_boxes
from engine.catalog.decisions import decide
from engine.catalog.growing_search import finish, replace_hits
from engine.catalog.models import add_model
from engine.catalog.rounds import get_round, round_tiles
from engine.catalog.schema import Annotation, Search
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


@pytest.fixture
def built(context):
    """The page, built while an event loop runs: without one Gradio makes some of its own and leaves them open."""

    async def build():
        with gr.Blocks() as blocks:
            add(context, blocks)
        return blocks

    return asyncio.run(build())


def test_a_box_on_the_enlarged_tile_becomes_a_search_in_tile_pixels(context):
    actions = Actions(context)
    tile, picture, opened, _ = actions.open(None)
    assert opened == tile
    zoom = picture["value"]["image"].width // 32
    assert zoom > 1
    box = {"xmin": 2.5 * zoom, "ymin": 3 * zoom, "xmax": 10 * zoom, "ymax": 12 * zoom}
    awaited, news = actions.start({"boxes": [box]}, opened, 40)
    (job,) = context.jobs.queued
    assert (awaited, "queued" in news) == (Awaited(job.id, tile, (2.5, 3.0, 10.0, 12.0), 0), True)
    assert (job.verb, job.config) == ("search", {"tile": tile, "box": [2.5, 3.0, 10.0, 12.0], "hits": 40})


@pytest.mark.parametrize("boxes", [[], [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}] * 2])
def test_one_box_it_must_be(context, boxes):
    with pytest.raises(UsageError, match="expected one box"):
        Actions(context).start({"boxes": boxes}, 1, 40)
    assert context.jobs.queued == []


def test_a_search_is_of_the_tile_that_was_opened_or_of_none(context, built):
    with pytest.raises(UsageError, match="no tile is open"):
        Actions(context).start({"boxes": [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}]}, None, 40)
    start, open_tile, visit = (next(each for each in built.fns.values() if each.name == name) for name in ("start", "open", "visit"))
    state = start.inputs[1]
    assert isinstance(state, gr.State)
    assert state in open_tile.outputs
    assert state in visit.outputs


@pytest.mark.parametrize("typed", [None, 0, "many"])
def test_an_emptied_field_is_named(found, typed):
    context, search, _ = found
    actions, asked = opened(context, search)
    box = {"boxes": [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}]}
    with pytest.raises(UsageError, match="number of look-alikes"):
        actions.start(box, 1, typed)
    with pytest.raises(UsageError, match="number of tiles"):
        actions.send(asked, typed)
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
    assert actions.limit(answer[ASKED], 0.7)[ASKED].score is None
    done = actions.refuse(actions.refuse(answer[ASKED])[ASKED])
    assert "1 look-alike below the score wait" in done[SHOWN]


def test_scores_below_nothing_are_hidden_by_the_slider_alone(found):
    context, search, _ = found
    with context.workspace.session() as session:
        known = hits(session, search)
        replace_hits(session, search, [FoundHit(hit.tile.id, hit.box_tile, hit.score - 0.85) for hit in known])
    actions, asked = opened(context, search)
    answer = actions.look(search)
    assert answer[GALLERY].count("/hits/") == 3
    assert -0.15 - STEP <= answer[SLIDER]["value"] == answer[SLIDER]["minimum"] <= -0.15
    hidden = actions.limit(asked, 0.0)
    assert (hidden[ASKED].score, hidden[GALLERY].count("/hits/"), hidden[SLIDER]["value"]) == (0.0, 1, 0.0)
    assert actions.limit(hidden[ASKED], answer[SLIDER]["minimum"])[GALLERY].count("/hits/") == 3
    confirmed, *_ = actions.ask_for_all(asked, "ship")
    assert confirmed.count == 3
    actions.accept_all(asked, confirmed, "ship", ANA)
    assert decisions(context, search) == ["yes"] * 3


def test_all_above_the_score_are_accepted_after_the_number_was_confirmed(found):
    context, search, _ = found
    actions, asked = opened(context, search)
    asked = actions.limit(asked, 0.75)[ASKED]
    confirmed, dialog, question, _ = actions.ask_for_all(asked, "ship")
    assert (confirmed, dialog["visible"]) == (Many(search, "ship", 2, 0.75), True)
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


def test_another_search_or_class_than_was_asked_about_is_not_confirmed(found):
    context, search, _ = found
    actions, asked = opened(context, search)
    confirmed, *_ = actions.ask_for_all(asked, "ship")
    with pytest.raises(StaleReview, match="the class car"):
        actions.accept_all(asked, confirmed, "car", ANA)
    other = another_search(context, tile=1)
    with context.workspace.session() as session:
        replace_hits(session, other, [FoundHit(hit.tile.id, hit.box_tile, hit.score) for hit in hits(session, search)])
    with pytest.raises(StaleReview, match=f"search {other}"):
        actions.accept_all(opened(context, other)[1], confirmed, "ship", ANA)
    assert decisions(context, search) == decisions(context, other) == [None] * 3


def test_another_search_or_class_hides_the_question(built):
    hides = [each.targets[0] for each in built.fns.values() if [part.elem_id for part in each.outputs] == ["confirm"]]
    on_page = {getattr(each, "elem_id", None): number for number, each in built.blocks.items()}
    assert {(on_page["search"], "change"), (on_page["label"], "change")} <= set(hides)


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


def another_search(context, *, tile, box=(1.0, 1.0, 9.0, 9.0)):
    with context.workspace.session() as session:
        return add_search(session, fingerprint=f"of {tile}", tile_id=tile, box_tile=box, model_id=1, config={}, found=[])


def waiting(context):
    """A visitor who asked for a search of a box that reaches over the left edge of tile 3."""
    actions = Actions(context)
    _, picture, opened, _ = actions.open(3)
    zoom = picture["value"]["image"].width // 32
    box = {"xmin": -2 * zoom, "ymin": 4 * zoom, "xmax": 12 * zoom, "ymax": 14 * zoom}
    return actions, actions.start({"boxes": [box]}, opened, 40)[0]


def test_the_search_that_a_visitor_asked_for_is_shown_and_nobody_elses(found):
    context, search, _ = found
    actions, awaited = waiting(context)
    another_search(context, tile=4)
    assert actions.arrived("ship", search, awaited)[0] == gr.skip(), "somebody else's"
    shown, _, still, fold = actions.refresh("ship", search, awaited)
    assert (shown["value"], still, fold) == (search, awaited, gr.skip())
    mine = another_search(context, tile=3, box=(0.0, 4.0, 12.0, 14.0))
    another_search(context, tile=5)
    shown, _, still, fold = actions.arrived("ship", search, awaited)
    assert (shown["value"], still, fold["open"]) == (mine, None, False)


def test_a_search_that_was_made_before_is_shown_when_its_job_says_so(found):
    context, search, _ = found
    with context.workspace.session() as session:
        session.execute(update(Search).values(tile_id=3, x1_tile=0.0, y1_tile=4.0, x2_tile=12.0, y2_tile=14.0))
        finish(session, search, tile=3, model="p", hits=3)
    other = another_search(context, tile=4)
    actions, awaited = waiting(context)
    assert actions.arrived("ship", other, awaited)[0] == gr.skip()
    (job,) = context.jobs.queued
    job.state, job.report = "done", {"search": search}
    shown, _, still, fold = actions.arrived("ship", other, awaited)
    assert (shown["value"], still, fold["open"]) == (search, None, False)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_search_that_fails_is_not_waited_for(found, state):
    context, search, _ = found
    actions, awaited = waiting(context)
    context.jobs.queued[0].state = state
    shown, _, still, fold = actions.arrived("ship", search, awaited)
    assert (shown["value"], still, fold) == (search, None, gr.skip())


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
    number, _, opened, fold, _ = actions.visit(SimpleNamespace(query_params={"tile": str(tile)}))
    assert (number, opened, fold["open"]) == (tile, tile, True)
    assert actions.visit(SimpleNamespace(query_params={}))[3]["open"] is False
