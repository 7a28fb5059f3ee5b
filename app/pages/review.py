"""The review page: one tile, its boxes and the detector's suggestions; drawn, moved, relabelled, deleted, accepted, complete."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from app.pages import text
from app.pages.context import PageContext, visitor
from app.pages.drawing import boxes_drawn, offered, surface, to_draw, zoom_of
from app.pages.working import counted, seconds_worked
from engine.boxes import Boxes, box_iou
from engine.catalog.annotations import label_set, set_label_set
from engine.catalog.pixels import TilePixels
from engine.catalog.reviews import TileState, review_queue, save_review, tile_state
from engine.catalog.schema import LabelSetRow
from engine.catalog.suggestions import suggested_boxes
from engine.catalog.visits import Opening
from engine.errors import NothingToDo, UsageError
from engine.label_set import LabelSet

__all__ = ["Actions", "Opened", "add", "asked_tile", "workspace_classes"]

SUGGESTION_IOU = 0.5
"""A suggestion that overlaps an accepted box by more says nothing new."""
SOURCE = "browser"
QUEUE_SHOWN = 12


@dataclass(frozen=True)
class Opened:
    """What a visitor has before them: the tile, its version, by what factor it is enlarged, and the boxes found there.

    ``since`` (seconds, monotonic) and ``count`` (seconds worked, by the browser) are of the opening or the last save; ``saved`` are the
    seconds of this visit that were saved before.
    """

    tile_id: int
    version: str
    zoom: int
    since: float
    count: float
    shown: Boxes
    saved: float = 0.0


def workspace_classes(context: PageContext) -> LabelSet | None:
    """The workspace's classes, None before there are any."""
    with context.workspace.session(write=False) as session:
        return label_set(session) if session.get(LabelSetRow, 1) is not None else None


def asked_tile(request: gr.Request) -> int | None:
    """The tile that the address names, as in ``/review?tile=12``."""
    asked = str(request.query_params.get("tile", ""))
    return int(asked) if asked.isdecimal() and len(asked) < 19 else None


class Actions:
    """What the page does; each answer fills the page's outputs, the line of news last.

    Args:
        context: the workspace behind it.
        clock: seconds that only grow.
    """

    OUTPUTS = 8

    def __init__(self, context: PageContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._clock = context, clock

    def visit(self, score: float, count: float | None, request: gr.Request) -> tuple[Any, ...]:
        """The tile that the address names, else the first that waits."""
        return *self._show(asked_tile(request), score, count, keep_class=False), ""

    def open(self, tile_id: float | None, score: float, count: float | None = None) -> tuple[Any, ...]:
        """The tile of that number."""
        return *self._show(tile_id, score, count), ""

    def following(self, before: Opened | None, score: float, count: float | None = None) -> tuple[Any, ...]:
        """The next tile that waits behind the one that is open."""
        with self._context.workspace.session(write=False) as session:
            waiting = [tile.id for tile in review_queue(session)]
        here = waiting.index(before.tile_id) + 1 if before and before.tile_id in waiting else 0
        behind = waiting[here:] or waiting
        return *self._show(behind[0] if behind else None, score, count), ""

    def save(
        self,
        value: dict[str, Any] | None,
        before: Opened | None,
        new: str | None,
        count: float | None = None,
        request: gr.Request | None = None,
    ) -> tuple[Any, ...]:
        """Keep the boxes as they are drawn; the tile stays open."""
        opened, said = self._store(value, before, new, count, visitor(request), complete=False)
        with self._context.workspace.session(write=False) as session:
            state = tile_state(session, opened.tile_id)
        skipped = [gr.skip()] * (self.OUTPUTS - 1)
        skipped[2:4] = [_about(state, Boxes.empty(scored=True)), opened]
        return *skipped, said

    def complete(
        self,
        value: dict[str, Any] | None,
        before: Opened | None,
        new: str | None,
        score: float,
        count: float | None = None,
        request: gr.Request | None = None,
    ) -> tuple[Any, ...]:
        """Keep the boxes, as all there are, and open the next tile that waits."""
        opened, said = self._store(value, before, new, count, visitor(request), complete=True)
        try:
            return *self._show(None, score, count), said
        except NothingToDo:
            return *self._as_it_is(opened), said + text.note("No further tile waits for a look.")

    def name_classes(self, typed: str) -> tuple[Any, ...]:
        """Fix the workspace's classes; what is drawn on the open tile stays."""
        with self._context.workspace.session() as session:
            made = set_label_set(session, [name.strip() for name in typed.split(",") if name.strip()])
        names = list(made.names)
        skipped = [gr.skip()] * (self.OUTPUTS - 1)
        skipped[1], skipped[5:] = offered(made), [gr.update(choices=names, value=names[0]), gr.update(visible=False)]
        return *skipped, text.done(f"The classes are {', '.join(names)}.")

    def _show(self, tile_id: float | None, score: float, count: float | None, *, keep_class: bool = True) -> tuple[Any, ...]:
        known = workspace_classes(self._context)
        with self._context.workspace.session(write=False) as session:
            waiting = review_queue(session, limit=QUEUE_SHOWN)
            wanted = int(tile_id) if tile_id else (waiting[0].id if waiting else None)
            state = tile_state(session, wanted) if wanted else None
        if state is None:
            raise NothingToDo("no tile waits for a look", remedy="Open one by its number, or let the page Rounds choose some")
        suggested = _suggestions(self._context, state, score)
        with TilePixels(self._context.workspace) as pixels:
            zoom = zoom_of(state.tile.window)
            drawing = to_draw(pixels.read(state.tile), state.boxes_tile, known, zoom=zoom, unsure=suggested)
        opened = Opened(state.tile.id, state.version, zoom, self._clock(), count or 0.0, _joined(state.boxes_tile, suggested))
        names = list(known.names) if known else []
        choice = gr.update(choices=names, **({} if keep_class or not names else {"value": names[0]}))
        return state.tile.id, drawing, _about(state, suggested), opened, _queue(waiting), choice, gr.update(visible=known is None)

    def _as_it_is(self, opened: Opened) -> tuple[Any, ...]:
        return gr.skip(), gr.skip(), gr.skip(), opened, gr.skip(), gr.skip(), gr.skip()

    def _store(
        self, value: dict[str, Any] | None, before: Opened | None, new: str | None, count: float | None, annotator: str, *, complete: bool
    ) -> tuple[Opened, str]:
        known = workspace_classes(self._context)
        if before is None or known is None:
            found = "no tile is open" if before is None else "this workspace has no classes yet"
            raise UsageError(found, remedy="Open a tile" if before is None else "Name the classes above; what you drew stays")
        drawn, now = boxes_drawn(value, known, zoom=before.zoom, new=new), self._clock()
        seconds = round(seconds_worked(count, before.count, now - before.since), 1)
        with self._context.workspace.session() as session:
            saved = save_review(
                session,
                before.tile_id,
                drawn,
                source=SOURCE,
                annotator=annotator,
                seconds=seconds,
                complete=complete,
                expected_version=before.version,
                opening=Opening(before.shown, before.saved),
            )
        counts = ", ".join(f"{getattr(saved, name)} {name}" for name in ("added", "moved", "relabelled", "removed", "unchanged"))
        said = text.done(f"Tile {before.tile_id} saved{' as complete' if complete else ''}: {counts}.")
        visit = {"shown": drawn, "saved": 0.0} if complete else {"saved": before.saved + seconds}
        return replace(before, version=saved.version, since=now, count=count or 0.0, **visit), said


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Review")
    news = gr.HTML(elem_id="news")
    with gr.Group(visible=False) as naming:
        names = gr.Textbox(label="The classes of this workspace, separated by commas; they stay as they are", elem_id="class-names")
        name_them = gr.Button("Name the classes", elem_id="name-classes")
    opened = gr.State(None)
    count = gr.Number(0, visible=False)
    with gr.Row():
        with gr.Column(scale=3):
            picture = surface(single_box=False, elem_id="drawing")
        with gr.Column(scale=1, min_width=260):
            with gr.Row():
                number = gr.Number(None, label="Tile", precision=0, minimum=1, elem_id="tile-number", min_width=80)
                open_tile = gr.Button("Open", elem_id="open-tile", min_width=80)
            about = gr.HTML(elem_id="tile")
            score = gr.Slider(0.05, 0.95, 0.3, step=0.05, label="Suggestions from this score up")
            new = gr.Dropdown([], label="A new box is a", interactive=True, elem_id="new-class")
            complete = gr.Button("This tile is complete", variant="primary", elem_id="complete")
            save = gr.Button("Save", elem_id="save")
            following = gr.Button("Next in the queue", elem_id="next-tile")
            gr.Markdown("Keys on the picture: C draw, D move; a click selects a box, then drag, relabel or delete it.")
    gr.Markdown("## Waiting for a look")
    queue = gr.HTML(elem_id="queue")
    outputs = [number, picture, about, opened, queue, new, naming, news]

    def on(event: Any, action: Callable[..., Any], inputs: list[Any], *, changes: bool = False, preprocess: bool = True) -> None:
        listener = context.answer(action, outputs=actions.OUTPUTS, changes=changes)
        script = counted(context.settings.pause_seconds) if inputs[-1] is count else None
        event(listener, inputs=inputs, outputs=outputs, preprocess=preprocess, js=script, api_visibility="private")

    on(blocks.load, actions.visit, [score, count])
    on(open_tile.click, actions.open, [number, score, count])
    on(score.release, actions.open, [number, score, count])
    on(following.click, actions.following, [opened, score, count])
    on(save.click, actions.save, [picture, opened, new, count], changes=True, preprocess=False)
    on(complete.click, actions.complete, [picture, opened, new, score, count], changes=True, preprocess=False)
    on(name_them.click, actions.name_classes, [names], changes=True)


def _suggestions(context: PageContext, state: TileState, threshold: float) -> Boxes:
    """What the newest detector found there and nobody has drawn; nothing on a tile that somebody has looked at."""
    if state.reviewed:
        return Boxes.empty(scored=True)
    found = suggested_boxes(context.workspace, state.tile.id, threshold)
    new = box_iou(found.xyxy, state.boxes_tile.xyxy).max(1, initial=0.0) < SUGGESTION_IOU
    return found.take(np.asarray(new, dtype=bool))


def _joined(accepted: Boxes, suggested: Boxes) -> Boxes:
    """What a visitor finds on a tile."""
    return Boxes(np.concatenate([accepted.xyxy, suggested.xyxy]), np.concatenate([accepted.labels, suggested.labels]))


def _about(state: TileState, suggested: Boxes) -> str:
    tile = state.tile
    return text.definitions(
        {
            "Scene": f"{tile.scene_name}, at {tile.window.x}, {tile.window.y}",
            "Ground": tile.split,
            "Boxes": f"{len(state.boxes_tile)} accepted, {len(suggested)} suggested by the detector (yellow)",
            "Looked at": f"by {state.by}" if state.reviewed else "not yet",
        }
    )


def _queue(waiting: list[Any]) -> str:
    if not waiting:
        return text.note("No tile waits.")
    return text.gallery([(f"/tiles/{tile.id}.png?width=96", str(tile.id), f"/review?tile={tile.id}") for tile in waiting], width=96)
