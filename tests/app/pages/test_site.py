"""The site as a whole: every page is built, and says what is there."""

from __future__ import annotations

import asyncio

import pytest

from app.pages import export, rounds, site
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.tiles import tiles
from engine.errors import UsageError


@pytest.fixture
def built(context):
    """The site, built while an event loop runs: without one Gradio makes some of its own and leaves them open."""

    async def build():
        return site.build(context)

    return asyncio.run(build())


def test_every_page_is_built_under_its_own_address(built):
    assert [path for path, _, _ in built.pages] == list(site.PAGES)
    pages = {component.page for component in built.blocks.values()}
    assert pages == set(site.PAGES)


def test_nothing_of_it_can_be_called_by_name(built):
    assert not built.get_api_info()["named_endpoints"]


def test_a_round_shows_its_tiles_with_reasons_and_cost(context):
    with context.workspace.session() as session:
        known = tiles(session, split="train")[:2]
        chosen = [ChosenTile(tile.id, 1.0, 30.0 + index, {"why": f"<b>new</b> ground {index}"}) for index, tile in enumerate(known)]
        add_round(session, budget_seconds=120, strategy="tilehawk", seed=0, chosen=chosen)
    history, number, cards = rounds.Actions(context).refresh()
    assert number["value"] == 1
    assert "tilehawk" in history
    assert f"tile {known[0].id}" in cards
    assert "31 s expected" in cards
    assert "<b>new</b>" not in cards
    assert "2.0 given, 1.0 expected" in cards


def test_a_round_is_queued_in_seconds_with_its_annotators(context):
    who = next(name for name, value in rounds.ANNOTATE.items() if value == "oracle")
    rounds.Actions(context).begin(20, "k-center", who, 600)
    (job,) = context.jobs.queued
    assert job.verb == "round"
    assert job.config == {
        "budget_seconds": 1200.0,
        "strategy": "k-center",
        "annotate": "oracle",
        "retrain": {"finetune": {"schedule": {"images_seen": 600}}},
    }


def test_how_much_a_round_sees_may_be_left_open(context):
    actions, who = rounds.Actions(context), next(iter(rounds.ANNOTATE))
    for act in (lambda images: actions.begin(20, "k-center", who, images), actions.retrain):
        with pytest.raises(UsageError, match="-1 as the number of training images"):
            act(-1)
    assert not context.jobs.queued
    for left_open in (None, 0):
        actions.begin(20, "k-center", who, left_open)
        assert context.jobs.queued[-1].config["retrain"] == {"finetune": {"schedule": {}}}


def test_what_was_exported_is_offered(context):
    folder = context.workspace.exports / "detector"
    folder.mkdir()
    (folder / "export.json").write_text("{}")
    _, chosen, files = export.Actions(context).refresh(None, None)
    assert chosen["value"] == "detector"
    assert '/downloads/exports/detector"' in files
    assert "layers" not in files
