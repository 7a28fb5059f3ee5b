"""What the page Find does: a search started, its look-alikes asked one after the other, many at once, or sent to annotators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.jobs import ENDED
from app.pages import text
from app.pages.context import PageContext, visitor
from app.pages.drawing import corners, to_draw, zoom_of
from app.pages.hit_cards import above, counted, gallery, large, lowest, named, next_hit, slider, stamp, standing, undecided
from app.pages.numbers import whole
from app.pages.reviewing import asked_tile, workspace_classes
from app.pages.working import seconds_worked
from engine.boxes import Boxes
from engine.catalog.browse import tile_page
from engine.catalog.decisions import accept_from, decide, seconds_spent, take_back_last
from engine.catalog.growing_search import is_finished
from engine.catalog.pixels import TilePixels
from engine.catalog.reviews import tile_state
from engine.catalog.searches import SearchRecord, hits, searches
from engine.errors import BadInput, NothingToDo, StaleReview, TilehawkError, UsageError
from engine.stages.near_misses import NearMissConfig, send_near_misses

__all__ = ["Actions", "Asked", "Awaited", "Many"]

DECISION_SECONDS = 120.0
"""Longer than this nobody looks at one look-alike where the browser does not count."""


@dataclass(frozen=True)
class Asked:
    """What a visitor is asked: the look-alike before them, and what was counted when the last one was decided.

    ``score``: those below it are hidden, none where that is None; ``known``: how many there were; ``stamp``: of where they all lie.
    """

    search: int | None = None
    hit: int | None = None
    score: float | None = None
    known: int = 0
    stamp: str = ""
    count: float = 0.0


@dataclass(frozen=True)
class Awaited:
    """A search that this visitor asked for: its job, its tile and box as it is going to be stored, and the last search before it."""

    job: str
    tile_id: int
    box_tile: tuple[float, ...]
    newest: int


@dataclass(frozen=True)
class Many:
    """What a yes to all was asked about: the look-alikes of a search from a score up, how many, and the class they would become."""

    search: int
    label: str
    count: int
    score: float


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
        number, drawing, opened, news = self.open(asked)
        return number, drawing, opened, gr.update(open=not folded), news

    def open(self, tile_id: float | None) -> tuple[Any, ...]:
        """The tile of that number, to draw on; its number stands before and behind: in the field, and as the one that is open."""
        with self._context.workspace.session(write=False) as session:
            first = tile_page(session, limit=1, split="train").tiles
            if not tile_id and not first:
                raise NothingToDo("there is no tile yet", remedy="Bring imagery in on the page Imagery")
            state = tile_state(session, int(tile_id or first[0].id))
        with TilePixels(self._context.workspace) as pixels:
            drawing = to_draw(pixels.read(state.tile), Boxes.empty(), None, zoom=zoom_of(state.tile.window))
        return state.tile.id, drawing, state.tile.id, ""

    def start(self, value: dict[str, Any] | None, opened: int | None, most: float | None) -> tuple[Awaited, str]:
        """Queue the search for what the one box on the open tile shows; also says what this visitor waits for from then on."""
        if opened is None:
            raise UsageError(
                "no tile is open", expected="one with a box around the object to look for", remedy="Open one, and draw the box"
            )
        if len(corners(value)) != 1:
            raise UsageError(
                f"{len(corners(value))} boxes on the tile", expected="one box, around the object to look for", remedy="Draw it first"
            )
        with self._context.workspace.session(write=False) as session:
            window = tile_state(session, opened).tile.window
            newest = max((each.id for each in searches(session)), default=0)
        x1, y1, x2, y2 = (round(side, 2) for side in corners(value, zoom=zoom_of(window))[0].tolist())
        job = self._context.jobs.enqueue("search", {"tile": opened, "box": [x1, y1, x2, y2], "hits": whole(most, "look-alikes")})
        clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(window.width)), min(y2, float(window.height)))
        return Awaited(job, opened, clipped, newest), text.done("The search is queued; its look-alikes appear below while it runs.")

    def refresh(self, label: str | None, shown: int | None, awaited: Awaited | None) -> tuple[Any, ...]:
        """The searches and the classes to choose from; one that this visitor waits for is shown as soon as it finds something.

        Args:
            label: the class of a yes.
            shown: the search that is looked at.
            awaited: what the visitor asked for; None where they wait for nothing.
        """
        known, came, waits = self._look_for(awaited)
        classes = workspace_classes(self._context)
        names = list(classes.names) if classes else []
        numbers = [each.id for each in known]
        chosen = next((each for each in (came, shown) if each in numbers), numbers[-1] if numbers and not waits else None)
        return (
            gr.update(choices=[(named(each), each.id) for each in reversed(known)], value=chosen),
            gr.update(choices=names, value=label if label in names else (names[0] if names else None)),
            awaited if waits else None,
            gr.update(open=False) if came is not None else gr.skip(),
        )

    def arrived(self, label: str | None, shown: int | None, awaited: Awaited | None) -> tuple[Any, ...]:
        """The same, once the search that this visitor waits for has found something, or comes no more; nothing until then."""
        if awaited is not None and not self._look_for(awaited)[-1]:
            return self.refresh(label, shown, awaited)
        return tuple([gr.skip()] * 4)

    def _look_for(self, awaited: Awaited | None) -> tuple[list[SearchRecord], int | None, bool]:
        """All searches, the number of the one that is waited for, None where it is not there, and whether it may yet come.

        A search that goes on is there before its job ends; one that was made before is named by the job's report.
        """
        with self._context.workspace.session(write=False) as session:
            known = searches(session)
            if awaited is None:
                return known, None, False
            same = [each.id for each in known if (each.tile_id, each.box_tile) == (awaited.tile_id, awaited.box_tile)]
            going_on = [each for each in same if each > awaited.newest or not is_finished(session, each)]
        if going_on:
            return known, going_on[-1], False
        try:
            job = self._context.jobs.get(awaited.job)
        except BadInput:
            return known, None, False
        number = (job.report or {}).get("search") if job.state == "done" else None
        if number in [each.id for each in known]:
            return known, number, False
        return known, None, number is not None or job.state not in ENDED

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

    def limit(self, asked: Asked, score: float | None) -> tuple[Any, ...]:
        """Hide what scores less; nothing at the slider's lower end."""
        with self._context.workspace.session(write=False) as session:
            found = hits(session, asked.search) if asked.search is not None else []
        hides = score is not None and bool(found) and score > lowest(found)
        return *self._show(replace(asked, score=score if hides else None)), ""

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
            waiting = undecided(above(hits(session, asked.search), asked.score)) if asked.search is not None else []
        if asked.search is None or not waiting:
            raise NothingToDo("no undecided look-alike from this score up", remedy="Move the slider")
        score = min(each.score for each in waiting) if asked.score is None else asked.score
        question = f"Yes to {counted(len(waiting), 'look-alike')}: make them boxes of the class {name}, one decision that Z takes back?"
        return Many(asked.search, str(name), len(waiting), score), gr.update(visible=True), text.note(question), ""

    def accept_all(self, asked: Asked, confirmed: Many | None, name: str | None, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Yes to all undecided look-alikes of the search, the class and the score that were asked about, if they are still as many."""
        if asked.search is None or confirmed is None:
            raise UsageError("nothing to confirm", expected="a number of look-alikes", remedy="Ask for all first")
        if (asked.search, name) != (confirmed.search, confirmed.label):
            raise StaleReview(
                f"search {asked.search} and the class {name or 'none'}",
                expected=f"search {confirmed.search} and the class {confirmed.label}, which were asked about",
                remedy="Ask for all again; nothing was decided",
            )
        count, score, label = confirmed.count, confirmed.score, self._class(name)
        with self._context.workspace.session() as session:
            made = accept_from(session, asked.search, score, expected=count, label=label, annotator=visitor(request))
        return *self._show(asked), text.done(f"{counted(made, 'look-alike')} kept as {name}.")

    def send(self, asked: Asked, tiles: float | None) -> str:
        """Open a round of the tiles whose undecided look-alikes lie nearest to the score that parts yes from no."""
        if asked.search is None:
            raise UsageError("no search is open", expected="one with undecided look-alikes", remedy="Choose one")
        config = NearMissConfig(search=asked.search, around=asked.score, tiles=whole(tiles, "tiles"))
        report = send_near_misses(self._context.workspace, config)
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
