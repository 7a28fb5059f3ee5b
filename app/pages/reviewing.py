"""What the page Review does: one tile opened, saved, completed, gone back on; the page itself is in review.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
from sqlalchemy.orm import Session

from app.pages import text
from app.pages.context import PageContext, visitor
from app.pages.drawing import UNSURE, boxes_drawn, offered, to_draw, zoom_of
from app.pages.tile_facts import about, legend, queue
from app.pages.tile_versions import when
from app.pages.working import seconds_worked
from engine.boxes import Boxes, box_iou
from engine.catalog.annotations import label_set, set_label_set
from engine.catalog.history import tile_history, version_boxes
from engine.catalog.pixels import TilePixels
from engine.catalog.reviews import TileState, review_queue, save_review, tile_state
from engine.catalog.rounds import newest_link
from engine.catalog.schema import LabelSetRow, RoundTile
from engine.catalog.searches import hits_on
from engine.catalog.suggestions import suggested_boxes
from engine.catalog.visits import Opening
from engine.errors import NothingToDo, UsageError
from engine.label_set import LabelSet

__all__ = ["Actions", "Opened", "asked_tile", "workspace_classes"]

SUGGESTION_IOU = 0.5
"""A suggestion that overlaps an accepted box by more says nothing new."""
SOURCE = "browser"
QUEUE_SHOWN = 12
TRAIL = 100
"""So many tiles back one can go."""


@dataclass(frozen=True)
class Opened:
    """What a visitor has before them: the tile, its version, by what factor it is enlarged, and the boxes found there.

    ``key`` names the tile's pixels; ``since`` (seconds, monotonic) and ``count`` (seconds worked, by the browser) are of the opening or
    the last save; ``saved`` are the seconds of this visit that were saved before; ``trail``: the tiles that were open before, in order.
    """

    tile_id: int
    key: str
    version: str
    zoom: int
    since: float
    count: float
    shown: Boxes
    saved: float = 0.0
    trail: tuple[int, ...] = ()

    def facts(self, by: str, *, fresh: bool, saved: str | None = None) -> dict[str, Any]:
        """What the script in the browser knows (web/labeller.js); ``saved``: the key of the tile that was saved just now."""
        unsure = f"rgb({', '.join(map(str, UNSURE))})"
        known = {"tile": self.tile_id, "key": self.key, "version": self.version, "zoom": self.zoom, "by": by, "unsure": unsure}
        return {**known, "fresh": fresh, "saved": saved, "stamp": repr(self.since)}


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

    OUTPUTS = 11

    def __init__(self, context: PageContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._clock = context, clock

    def visit(self, score: float, count: float | None, request: gr.Request) -> tuple[Any, ...]:
        """The tile that the address names, else the first that waits."""
        return *self._show(asked_tile(request), score, count, by=visitor(request), keep_class=False), ""

    def open(
        self,
        tile_id: float | None,
        score: float,
        before: Opened | None = None,
        count: float | None = None,
        request: gr.Request | None = None,
    ) -> tuple[Any, ...]:
        """The tile of that number."""
        return *self._show(tile_id, score, count, before, by=visitor(request)), ""

    def following(
        self, before: Opened | None, score: float, count: float | None = None, request: gr.Request | None = None
    ) -> tuple[Any, ...]:
        """The next tile that waits behind the one that is open."""
        with self._context.workspace.session(write=False) as session:
            waiting = [tile.id for tile in review_queue(session)]
        here = waiting.index(before.tile_id) + 1 if before and before.tile_id in waiting else 0
        behind = waiting[here:] or waiting
        return *self._show(behind[0] if behind else None, score, count, before, by=visitor(request)), ""

    def previous(
        self, before: Opened | None, score: float, count: float | None = None, request: gr.Request | None = None
    ) -> tuple[Any, ...]:
        """The tile that was open before this one."""
        if before is None or not before.trail:
            raise NothingToDo("no tile was open before this one", remedy="Open one by its number")
        shown = self._show(before.trail[-1], score, count, by=visitor(request), trail=before.trail[:-1])
        return *shown, ""

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
        return *self._as_saved(opened, visitor(request)), said

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
            return *self._show(None, score, count, opened, by=visitor(request), saved=opened.key), said
        except NothingToDo:
            return *self._as_saved(opened, visitor(request)), said + text.note("No further tile waits for a look.")

    def go_back(
        self, number: int | None, before: Opened | None, score: float, count: float | None = None, request: gr.Request | None = None
    ) -> tuple[Any, ...]:
        """Save an earlier version of the open tile as its newest; nothing is erased."""
        if before is None or number is None:
            raise UsageError("no version to go back to", expected="one of the tile's history", remedy="Choose one")
        with self._context.workspace.session() as session:
            wanted = next((each for each in tile_history(session, before.tile_id) if each.number == number), None)
            boxes = version_boxes(session, before.tile_id, int(number))
            save_review(
                session,
                before.tile_id,
                boxes,
                source=SOURCE,
                annotator=visitor(request),
                seconds=None,
                complete=False,
                expected_version=before.version,
            )
        said = "as the first save found it" if wanted is None or wanted.at is None else f"as {wanted.by} {wanted.act} it, {when(wanted.at)}"
        news = text.done(f"Tile {before.tile_id} is {said}. What it was until now is in its history.")
        return *self._show(before.tile_id, score, count, before, by=visitor(request)), news

    def name_classes(self, typed: str) -> tuple[Any, ...]:
        """Fix the workspace's classes; what is drawn on the open tile stays."""
        with self._context.workspace.session() as session:
            made = set_label_set(session, [name.strip() for name in typed.split(",") if name.strip()])
        names = list(made.names)
        skipped: list[Any] = [gr.skip()] * (self.OUTPUTS - 1)
        skipped[1], skipped[5:8] = offered(made), [gr.update(choices=names, value=names[0]), gr.update(visible=False), legend(made)]
        return *skipped, text.done(f"The classes are {', '.join(names)}.")

    def _show(
        self,
        tile_id: float | None,
        score: float,
        count: float | None,
        before: Opened | None = None,
        *,
        by: str,
        keep_class: bool = True,
        trail: tuple[int, ...] | None = None,
        saved: str | None = None,
    ) -> tuple[Any, ...]:
        known = workspace_classes(self._context)
        with self._context.workspace.session(write=False) as session:
            waiting = review_queue(session, limit=QUEUE_SHOWN)
            wanted = int(tile_id) if tile_id else (waiting[0].id if waiting else None)
            state = tile_state(session, wanted) if wanted else None
            chosen = newest_link(session, wanted) if wanted else None
            hits = _hits_in_question(session, chosen)
        if state is None:
            raise NothingToDo("no tile waits for a look", remedy="Open one by its number, or let the page Rounds choose some")
        suggested = _suggestions(self._context, state, score)
        with TilePixels(self._context.workspace) as pixels:
            zoom = zoom_of(state.tile.window)
            drawing = to_draw(pixels.read(state.tile), state.boxes_tile, known, zoom=zoom, unsure=suggested)
        shown = _joined(state.boxes_tile, suggested)
        trail = _trail(before, state.tile.id) if trail is None else trail
        opened = Opened(state.tile.id, state.tile.content_hash, state.version, zoom, self._clock(), count or 0.0, shown=shown, trail=trail)
        names = list(known.names) if known else []
        choice = gr.update(choices=names, **({} if keep_class or not names else {"value": names[0]}))
        return (
            state.tile.id,
            drawing,
            about(state, suggested, chosen, hits),
            opened,
            queue(waiting),
            choice,
            gr.update(visible=known is None),
            legend(known),
            opened.facts(by, fresh=True, saved=saved),
            gr.update(open=False),
        )

    def _as_saved(self, opened: Opened, by: str) -> tuple[Any, ...]:
        """The tile stays on the surface as it is; what is said of it is new."""
        with self._context.workspace.session(write=False) as session:
            state, chosen = tile_state(session, opened.tile_id), newest_link(session, opened.tile_id)
            hits = _hits_in_question(session, chosen)
        skipped: list[Any] = [gr.skip()] * (self.OUTPUTS - 1)
        skipped[2:4] = [about(state, Boxes.empty(scored=True), chosen, hits), opened]
        skipped[8:] = [opened.facts(by, fresh=False, saved=opened.key), gr.update(open=False)]
        return tuple(skipped)

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


def _hits_in_question(session: Session, chosen: RoundTile | None) -> list[int]:
    """The look-alikes for which a tile was chosen, as far as they are still there."""
    named = chosen.reasons.get("hits", []) if chosen else []
    return hits_on(session, chosen.tile_id, named) if chosen and named else []


def _trail(before: Opened | None, tile_id: int) -> tuple[int, ...]:
    if before is None:
        return ()
    return before.trail if before.tile_id == tile_id else (*before.trail, before.tile_id)[-TRAIL:]


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
