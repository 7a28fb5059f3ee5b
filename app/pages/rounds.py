"""The rounds page: a budget in, ranked tiles with reasons and cost out, annotators, retraining, the learning curve."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.pages.overview import rounds_table
from engine.catalog.rounds import get_round, round_tiles, rounds
from engine.catalog.schema import RoundTile
from engine.catalog.summary import summarize
from engine.catalog.tiles import TileRecord, tiles
from engine.errors import UsageError

__all__ = ["add"]

ANNOTATE = {
    "people, in this browser": "browser",
    "people, in Label Studio": "label-studio",
    "the oracle (withheld labels, a simulation)": "oracle",
}
STRATEGIES = ["tilehawk", "entropy", "k-center", "random"]
TILES_SHOWN = 100
CARD_PIXELS = 150


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    gr.Markdown("# Rounds")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        minutes = gr.Number(20, label="Annotator minutes to spend", minimum=0.1, elem_id="minutes")
        rate = gr.Number(30, label="Cost of an annotator hour", minimum=0, elem_id="rate")
        strategy = gr.Dropdown(STRATEGIES, value="tilehawk", label="Tiles are chosen by")
        annotate = gr.Dropdown(list(ANNOTATE), value=next(iter(ANNOTATE)), label="Who annotates", elem_id="annotate")
        images = gr.Number(2400, label="Training images seen in all", precision=0, minimum=1)
    price = gr.HTML(elem_id="price")
    with gr.Row():
        start = gr.Button("Start a round", variant="primary", elem_id="start-round")
        retrain = gr.Button("Retrain on everything that is looked at", elem_id="retrain")
    follow_here = gr.Column()
    gr.Markdown("## What the rounds bought")
    history = gr.HTML(elem_id="rounds")
    gr.Markdown("## Tiles of a round")
    number = gr.Dropdown([], label="Round", interactive=True, elem_id="round")
    cards = gr.HTML(elem_id="round-tiles")

    def cost(spent: float | None, hourly: float | None) -> str:
        return text.note(f"{spent or 0:g} minutes cost {(spent or 0) / 60 * (hourly or 0):.2f} at that rate.")

    def begin(spent: float | None, chosen_strategy: str, who: str, seen: float) -> str:
        if not spent or spent <= 0:
            raise UsageError(f"a budget of {spent or 0:g} minutes", expected="more than 0", remedy="Say how long an annotator may work")
        config = {
            "budget_seconds": 60 * float(spent),
            "strategy": chosen_strategy,
            "annotate": ANNOTATE[who],
            "retrain": {"finetune": {"schedule": {"images_seen": int(seen)}}},
        }
        context.jobs.enqueue("round", config)
        return text.done("The round is queued: its tiles appear below when they are ranked.")

    def train(seen: float) -> str:
        context.jobs.enqueue("retrain", {"finetune": {"schedule": {"images_seen": int(seen)}}})
        return text.done("Retraining is queued.")

    def refresh(shown: int | None) -> tuple[Any, ...]:
        summary = summarize(context.workspace)
        known = [each.number for each in summary.rounds]
        chosen = shown if shown in known else (known[-1] if known else None)
        return rounds_table(summary), gr.update(choices=list(reversed(known)), value=chosen), _cards(context, chosen)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with follow_here:
        verbs = {"round", "retrain", "rank", "oracle", "push", "pull", "finetune", "predict", "evaluate"}
        follow(context, blocks, verbs=verbs, refresh=refresh, inputs=[number], outputs=[history, number, cards])
    blocks.load(cost, inputs=[minutes, rate], outputs=price, **quiet)
    for changed in (minutes, rate):
        changed.change(cost, inputs=[minutes, rate], outputs=price, **quiet)
    number.change(lambda chosen: _cards(context, chosen), inputs=number, outputs=cards, **quiet)
    start.click(
        context.answer(begin, outputs=1, changes=True), inputs=[minutes, strategy, annotate, images], outputs=news, api_visibility="private"
    )
    retrain.click(context.answer(train, outputs=1, changes=True), inputs=images, outputs=news, api_visibility="private")


def _cards(context: PageContext, number: int | None) -> str:
    """The tiles of a round in their order: why each was chosen, what it was expected to cost, and whether somebody has looked at it."""
    with context.workspace.session(write=False) as session:
        if not rounds(session) or number is None:
            return text.note("No round yet.")
        row = get_round(session, int(number))
        links = round_tiles(session, row)
        records = {tile.id: tile for tile in tiles(session, ids=[link.tile_id for link in links])}
        reviewed = {tile.id for tile in tiles(session, ids=list(records), reviewed=True)}
    spent = "not yet known" if row.measured_seconds is None else f"{row.measured_seconds / 60:.1f}"
    head = text.note(
        f"{len(links)} tiles, {len(reviewed)} looked at; minutes: {row.budget_seconds / 60:.1f} given, "
        f"{row.estimated_seconds / 60:.1f} expected, {spent} measured."
    )
    shown = [
        (
            f"/tiles/{link.tile_id}.png?width={CARD_PIXELS}",
            _reason(link, records[link.tile_id], link.tile_id in reviewed),
            f"/review?tile={link.tile_id}",
        )
        for link in links[:TILES_SHOWN]
    ]
    left = text.note(f"and {len(links) - TILES_SHOWN} more: tilehawk rank --json") if len(links) > TILES_SHOWN else ""
    return head + text.gallery(shown, width=CARD_PIXELS) + left


def _reason(link: RoundTile, tile: TileRecord, reviewed: bool) -> str:
    cost = f"{link.estimated_seconds:.0f} s expected"
    if link.measured_seconds is not None:
        cost += f", {link.measured_seconds:.0f} s measured"
    return f"{link.position + 1}. tile {tile.id} · {link.reasons.get('why', '')} · {cost}{' · looked at' if reviewed else ''}"
