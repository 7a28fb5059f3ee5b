"""What the page Find does: a search started, its look-alikes asked one after the other, many at once, or sent to annotators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext, visitor
from app.pages.drawing import corners, to_draw, zoom_of
from app.pages.hit_cards import above, counted, gallery, large, named, next_hit, slider, stamp, standing, undecided
from app.pages.reviewing import asked_tile, workspace_classes
from app.pages.working import seconds_worked
from engine.boxes import Boxes
from engine.catalog.browse import tile_page
from engine.catalog.decisions import accept_from, decide, seconds_spent, take_back_last
from engine.catalog.pixels import TilePixels
from engine.catalog.reviews import tile_state
from engine.catalog.searches import hits, searches
from engine.errors import BadInput, NothingToDo, TilehawkError, UsageError
from engine.stages.near_misses import NearMissConfig, send_near_misses

__all__ = ["Actions", "Asked"]

DECISION_SECONDS = 120.0
"""Longer than this nobody looks at one look-alike where the browser does not count."""


@dataclass(frozen=True)
class Asked:
    """What a visitor is asked: the look-alike before them, and what was counted when the last one was decided.

    ``score``: those below it are hidden, none where that is 0; ``known``: how many there were; ``stamp``: of where they all lie.
    """

    search: int | None = None
    hit: int | None = None
    score: float = 0.0
    known: int = 0
    stamp: str = ""
    count: float = 0.0


class Actions:
    """What the page does; the line of news is each answer's last part."""

    OUTPUTS = 7
    """Of what is asked: the state, the look-alike, all of them, how far one is, the slider, the button for many, the line of news."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def visit(self, request: gr.Request) -> tuple[Any, ...]:
        """The tile that the address names, else the first of the training ground; unfolded where there is nothing to decide on yet."""
        asked = asked_tile(request)
        with self._context.workspace.session(write=False) as session:
            folded = asked is None and bool(searches(session))
        number, drawing, news = self.open(asked)
        return number, drawing, gr.update(open=not folded), news

    def open(self, tile_id: float | None) -> tuple[Any, ...]:
        """The tile of that number, to draw on."""
        with self._context.workspace.session(write=False) as session:
            first = tile_page(session, limit=1, split="train").tiles
            if not tile_id and not first:
                raise NothingToDo("there is no tile yet", remedy="Bring imagery in on the page Imagery")
            state = tile_state(session, int(tile_id or first[0].id))
        with TilePixels(self._context.workspace) as pixels:
            drawing = to_draw(pixels.read(state.tile), Boxes.empty(), None, zoom=zoom_of(state.tile.window))
        return state.tile.id, drawing, ""

    def start(self, value: dict[str, Any] | None, tile_id: float | None, most: float) -> tuple[int, str]:
        """Queue the search for what the one box on the tile shows; also says which search is the last one until then."""
        if not tile_id or len(corners(value)) != 1:
            raise UsageError(
                f"{len(corners(value))} boxes on the tile", expected="one box, around the object to look for", remedy="Draw it first"
            )
        with self._context.workspace.session(write=False) as session:
            zoom = zoom_of(tile_state(session, int(tile_id)).tile.window)
            newest = max((each.id for each in searches(session)), default=0)
        box = [round(side, 2) for side in corners(value, zoom=zoom)[0].tolist()]
        self._context.jobs.enqueue("search", {"tile": int(tile_id), "box": box, "hits": int(most)})
        return newest, text.done("The search is queued; its look-alikes appear below while it runs.")

    def refresh(self, label: str | None, shown: int | None, newest: int | None) -> tuple[Any, ...]:
        """The searches and the classes to choose from; one that this visitor waits for is shown as soon as it finds something.

        Args:
            label: the class of a yes.
            shown: the search that is looked at.
            newest: the last search when the visitor asked for one; None where they wait for none.
        """
        with self._context.workspace.session(write=False) as session:
            known = searches(session)
        classes = workspace_classes(self._context)
        names = list(classes.names) if classes else []
        last = known[-1].id if known else None
        came = newest is not None and last is not None and last > newest
        chosen = shown if not came and shown in [each.id for each in known] else last
        return (
            gr.update(choices=[(named(each), each.id) for each in reversed(known)], value=chosen),
            gr.update(choices=names, value=label if label in names else (names[0] if names else None)),
            None if came else newest,
            gr.update(open=False) if came else gr.skip(),
        )

    def arrived(self, label: str | None, shown: int | None, newest: int | None) -> tuple[Any, ...]:
        """The same, once the search that this visitor waits for has found something; nothing until then."""
        if newest is not None:
            with self._context.workspace.session(write=False) as session:
                if any(each.id > newest for each in searches(session)):
                    return self.refresh(label, shown, newest)
        return tuple([gr.skip()] * 4)

    def look(self, search: int | None, asked: Asked | None = None, count: float | None = None) -> tuple[Any, ...]:
        """The look-alikes of a search, and the first of them that nobody has decided on; the one that is asked already is kept."""
        asked = asked or Asked()
        return *self._show(asked if asked.search == search else Asked(search, count=count or 0.0)), ""

    def grown(self, asked: Asked | None) -> tuple[Any, ...]:
        """What a search that goes on has found since, the look-alike before the visitor kept; nothing where nothing is new."""
        asked = asked or Asked()
        skipped = tuple([gr.skip()] * (self.OUTPUTS - 1))
        try:
            shown = self._show(asked)
        except TilehawkError:
            return skipped
        return skipped if (shown[0].known, shown[0].stamp) == (asked.known, asked.stamp) else shown

    def move(self, asked: Asked, step: int) -> tuple[Any, ...]:
        """The next look-alike that nobody has decided on, or with ``step`` −1 the one before; decides nothing."""
        return *self._show(asked, step=step), ""

    def limit(self, asked: Asked, score: float) -> tuple[Any, ...]:
        """Hide what scores less."""
        with self._context.workspace.session(write=False) as session:
            hides = asked.search is not None and any(each.score < score for each in hits(session, asked.search))
        return *self._show(replace(asked, score=score if hides else 0.0)), ""

    def accept(self, asked: Asked, name: str | None, count: float | None = None, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Make the look-alike a box of the class ``name``."""
        answer = self._decide(asked, self._class(name), count, visitor(request))
        return *answer, text.done(f"Kept as {name}; it is shown on its tile from now on.")

    def refuse(self, asked: Asked, count: float | None = None, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Set the look-alike aside."""
        return *self._decide(asked, None, count, visitor(request)), text.done("Noted: not one of them.")

    def take_back(self, asked: Asked, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Undo this visitor's last decision, or all that they made at once, and ask it again."""
        if asked.search is None:
            raise UsageError("no search is open", expected="one with decisions", remedy="Choose one")
        with self._context.workspace.session() as session:
            taken = take_back_last(session, asked.search, annotator=visitor(request))
        again = replace(asked, hit=taken.hits[-1] if taken.hits else asked.hit)
        kept = f"; {taken.left} were decided otherwise since, and stay" if taken.left else ""
        return *self._show(again), text.done(f"Taken back: {counted(len(taken.hits), 'decision')}{kept}.")

    def ask_for_all(self, asked: Asked, name: str | None) -> tuple[Any, Any, str, str]:
        """How many a yes to all would be: the number must be confirmed."""
        self._class(name)
        with self._context.workspace.session(write=False) as session:
            count = len(undecided(above(hits(session, asked.search), asked.score))) if asked.search is not None else 0
        if not count:
            raise NothingToDo("no undecided look-alike from this score up", remedy="Move the slider")
        question = f"Yes to {counted(count, 'look-alike')}: make them boxes of the class {name}, one decision that Z takes back?"
        return (count, asked.score), gr.update(visible=True), text.note(question), ""

    def accept_all(
        self, asked: Asked, confirmed: tuple[int, float] | None, name: str | None, request: gr.Request | None = None
    ) -> tuple[Any, ...]:
        """Yes to all undecided look-alikes of the score that was asked about, if they are still as many."""
        if asked.search is None or confirmed is None:
            raise UsageError("nothing to confirm", expected="a number of look-alikes", remedy="Ask for all first")
        count, score = confirmed
        with self._context.workspace.session() as session:
            made = accept_from(session, asked.search, score, expected=count, label=self._class(name), annotator=visitor(request))
        return *self._show(asked), text.done(f"{counted(made, 'look-alike')} kept as {name}.")

    def send(self, asked: Asked, tiles: float) -> str:
        """Open a round of the tiles whose undecided look-alikes lie nearest to the score that parts yes from no."""
        if asked.search is None:
            raise UsageError("no search is open", expected="one with undecided look-alikes", remedy="Choose one")
        around = asked.score or None
        report = send_near_misses(self._context.workspace, NearMissConfig(search=asked.search, around=around, tiles=int(tiles)))
        scores = [tile.score for tile in report.tiles]
        return text.done(
            f"Round {report.round}: {counted(len(scores), 'tile')} with scores {min(scores):.2f} to {max(scores):.2f} around "
            f"{report.around:.2f}. They wait on the page Review; the page Annotators sends them."
        )

    def _class(self, name: str | None) -> int:
        classes = workspace_classes(self._context)
        if classes is None or name not in classes.names:
            raise BadInput("no class for a yes", expected="one of the workspace's classes", remedy="Name the classes on the page Review")
        return classes.names.index(name)

    def _decide(self, asked: Asked, label: int | None, count: float | None, annotator: str) -> tuple[Any, ...]:
        if asked.hit is None or asked.search is None:
            raise UsageError("no look-alike to decide on", expected="a search with open look-alikes", remedy="Find some first")
        seconds = None if count is None else seconds_worked(count, asked.count, DECISION_SECONDS)
        with self._context.workspace.session() as session:
            decide(session, asked.hit, accept=label is not None, label=label, annotator=annotator, seconds=seconds)
        return self._show(replace(asked, count=asked.count if count is None else count), step=1)

    def _show(self, asked: Asked, *, step: int = 0) -> tuple[Any, ...]:
        """All outputs but the news; ``step`` moves on from the look-alike that is asked, 0 keeps it."""
        if asked.search is None:
            return asked, text.note("No search yet: draw a box above."), "", "", gr.skip(), gr.update(interactive=False)
        with self._context.workspace.session(write=False) as session:
            found, seconds = hits(session, asked.search), seconds_spent(session, asked.search)
        shown = above(found, asked.score)
        current = next_hit(shown, asked.hit, step)
        now = replace(asked, hit=current.id if current else None, known=len(found), stamp=stamp(found))
        ready = len(undecided(shown))
        return (
            now,
            large(found, shown, current),
            gallery(shown),
            standing(found, shown, seconds),
            slider(found, asked.score),
            gr.update(value=f"Yes to all {ready} …", interactive=ready > 0),
        )
