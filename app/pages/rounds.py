"""The rounds page: a budget in, ranked tiles with reasons and cost out, annotators, retraining, the learning curve."""

from __future__ import annotations

from typing import Any, get_args

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.pages.numbers import BY_LABELS, IMAGES_LABEL, learned_images
from app.pages.overview import rounds_table
from engine.catalog.rounds import get_round, round_tiles, rounds
from engine.catalog.schema import RoundTile
from engine.catalog.summary import summarize
from engine.catalog.tiles import TileRecord, tiles
from engine.errors import UsageError
from engine.selection.config import Strategy

__all__ = ["ANNOTATE", "Actions", "add"]

ANNOTATE = {
    "people, in this browser": "browser",
    "people, in Label Studio": "label-studio",
    "the oracle (withheld labels, a simulation)": "oracle",
}
STRATEGIES = list(get_args(Strategy))
VERBS_SHOWN = frozenset({"round", "retrain", "rank", "oracle", "push", "pull", "finetune", "predict", "evaluate"})
TILES_SHOWN = 100
CARD_PIXELS = 150


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def price(self, minutes: float | None, rate: float | None) -> str:
        """What the budget costs."""
        return text.note(f"{minutes or 0:g} minutes cost {(minutes or 0) / 60 * (rate or 0):.2f} at that rate.")

    def begin(self, minutes: float | None, strategy: str, who: str, images: float | None) -> str:
        """Queue a round."""
        if not minutes or minutes <= 0:
            raise UsageError(f"a budget of {minutes or 0:g} minutes", expected="more than 0", remedy="Say how long an annotator may work")
        config = {
            "budget_seconds": 60 * float(minutes),
            "strategy": strategy,
            "annotate": ANNOTATE[who],
            "retrain": {"finetune": {"schedule": learned_images(images)}},
        }
        self._context.jobs.enqueue("round", config)
        return text.done("The round is queued: its tiles appear below when they are ranked.")

    def retrain(self, images: float | None) -> str:
        """Queue a training on everything that is looked at."""
        self._context.jobs.enqueue("retrain", {"finetune": {"schedule": learned_images(images)}})
        return text.done("Retraining is queued.")

    def refresh(self) -> tuple[Any, ...]:
        """What the rounds bought, the rounds to choose from, and the tiles of one; a new round is shown at once."""
        summary = summarize(self._context.workspace)
        known = [each.number for each in summary.rounds]
        chosen = known[-1] if known else None
        return rounds_table(summary), gr.update(choices=list(reversed(known)), value=chosen), self.cards(chosen)

    def cards(self, number: int | None) -> str:
        """The tiles of a round."""
        return _cards(self._context, number)


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Rounds")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        minutes = gr.Number(20, label="Annotator minutes to spend", minimum=0.1, elem_id="minutes")
        rate = gr.Number(30, label="Cost of an annotator hour", minimum=0, elem_id="rate")
        strategy = gr.Dropdown(STRATEGIES, value="tilehawk", label="Tiles are chosen by")
        annotate = gr.Dropdown(list(ANNOTATE), value=next(iter(ANNOTATE)), label="Who annotates", elem_id="annotate")
        images = gr.Number(BY_LABELS, label=IMAGES_LABEL, precision=0, minimum=0)
    price = gr.HTML(elem_id="price")
    with gr.Row():
        start = gr.Button("Start a round", variant="primary", elem_id="start-round")
        retrain = gr.Button("Retrain on everything that is looked at", elem_id="retrain")
    jobs_here = gr.Column()
    gr.Markdown("## What the rounds bought")
    history = gr.HTML(elem_id="rounds")
    gr.Markdown("## Tiles of a round")
    number = gr.Dropdown([], label="Round", interactive=True, elem_id="round")
    cards = gr.HTML(elem_id="round-tiles")
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with jobs_here:
        follow(context, blocks, verbs=VERBS_SHOWN, refresh=actions.refresh, outputs=[history, number, cards])
    blocks.load(actions.price, inputs=[minutes, rate], outputs=price, **quiet)
    for changed in (minutes, rate):
        changed.change(actions.price, inputs=[minutes, rate], outputs=price, **quiet)
    number.input(actions.cards, inputs=number, outputs=cards, **quiet)
    begin = context.answer(actions.begin, outputs=1, changes=True, needs="manager")
    start.click(begin, inputs=[minutes, strategy, annotate, images], outputs=news, api_visibility="private")
    again = context.answer(actions.retrain, outputs=1, changes=True, needs="engineer")
    retrain.click(again, inputs=images, outputs=news, api_visibility="private")


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
