"""What the find page does, without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import pytest

from app.pages.find import Actions
from engine.catalog.annotations import set_label_set, tile_boxes
from engine.catalog.models import add_model
from engine.catalog.schema import Annotation
from engine.catalog.searches import FoundHit, add_search, hits
from engine.catalog.tiles import tiles
from engine.errors import BadInput, UsageError

HIT, SHOWN, GALLERY, NEWS = range(4)


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
    assert "queued" in actions.start({"boxes": [box]}, tile, 40)
    (job,) = context.jobs.queued
    assert (job.verb, job.config) == ("search", {"tile": tile, "box": [2.5, 3.0, 10.0, 12.0], "hits": 40})


@pytest.mark.parametrize("boxes", [[], [{"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}] * 2])
def test_one_box_it_must_be(context, boxes):
    with pytest.raises(UsageError, match="expected one box"):
        Actions(context).start({"boxes": boxes}, 1, 40)
    assert context.jobs.queued == []


def test_yes_makes_a_box_and_the_next_look_alike_is_asked(found):
    context, search, (first, second, _) = found
    actions = Actions(context)
    assert actions.look(search)[HIT] == first
    answer = actions.accept(search, first, "ship", SimpleNamespace(username="ana"))
    assert answer[HIT] == second
    assert "1 of 3 decided" in answer[SHOWN]
    with context.workspace.session(write=False) as session:
        tile = hits(session, search)[0].tile
        boxes = tile_boxes(session, [tile])[tile.id]
        assert [row.annotator for row in session.query(Annotation)] == ["ana"]
    assert (boxes.xyxy.tolist(), boxes.labels.tolist()) == ([[4, 4, 12, 12]], [1])


def test_no_sets_aside_and_next_passes_over(found):
    context, search, (first, second, third) = found
    actions = Actions(context)
    assert actions.look(search, first)[HIT] == second
    assert actions.refuse(search, first)[HIT] == second
    assert actions.look(search, third)[HIT] == second, "behind the last it begins anew"
    for hit in (second, third):
        answer = actions.refuse(search, hit)
    assert answer[HIT] is None
    assert "All 3 look-alikes are decided" in answer[SHOWN]
    assert answer[GALLERY].count("/hits/") == 3


@pytest.mark.parametrize("label", [None, "plane"])
def test_a_yes_needs_a_class(found, label):
    context, search, (first, *_) = found
    with pytest.raises(BadInput, match="no class"):
        Actions(context).accept(search, first, label)


def test_searches_and_classes_are_offered_the_newest_first(found):
    context, search, _ = found
    shown, label = Actions(context).refresh(None)
    assert (shown["value"], label["value"], label["choices"]) == (search, "car", ["car", "ship"])
    assert Actions(context).refresh("ship")[1]["value"] == "ship"


def test_without_a_search_it_says_what_to_do(context):
    assert "draw a box" in Actions(context).look(None)[SHOWN]
    with pytest.raises(UsageError, match="no look-alike"):
        Actions(context).refuse(None, None)
    refused = context.answer(Actions(context).look, outputs=4)(99)
    assert refused[HIT] in (None, gr.skip())
