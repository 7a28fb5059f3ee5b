"""The find page: a box drawn around one object, its look-alikes in the archive, yes or no to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext, visitor
from app.pages.drawing import corners, surface, to_draw, zoom_of
from app.pages.jobs import follow
from app.pages.review import asked_tile, workspace_classes
from engine.boxes import Boxes
from engine.catalog.browse import tile_page
from engine.catalog.decisions import decide
from engine.catalog.pixels import TilePixels
from engine.catalog.reviews import tile_state
from engine.catalog.searches import HitRecord, SearchRecord, hits, searches
from engine.errors import BadInput, NothingToDo, UsageError

__all__ = ["Actions", "add"]

HIT_PIXELS = 140


class Actions:
    """What the page does; the line of news is each answer's last part."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def visit(self, request: gr.Request) -> tuple[Any, ...]:
        """The tile that the address names, else the first of the training ground."""
        return self.open(asked_tile(request))

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

    def start(self, value: dict[str, Any] | None, tile_id: float | None, most: float) -> str:
        """Queue the search for what the one box on the tile shows."""
        if not tile_id or len(corners(value)) != 1:
            raise UsageError(
                f"{len(corners(value))} boxes on the tile", expected="one box, around the object to look for", remedy="Draw it first"
            )
        with self._context.workspace.session(write=False) as session:
            zoom = zoom_of(tile_state(session, int(tile_id)).tile.window)
        box = [round(side, 2) for side in corners(value, zoom=zoom)[0].tolist()]
        self._context.jobs.enqueue("search", {"tile": int(tile_id), "box": box, "hits": int(most)})
        return text.done("The search is queued; its look-alikes appear below when it is done.")

    def refresh(self, label: str | None) -> tuple[Any, ...]:
        """The searches and the classes to choose from; a new search is shown at once."""
        with self._context.workspace.session(write=False) as session:
            known = searches(session)
        classes = workspace_classes(self._context)
        names = list(classes.names) if classes else []
        searches_shown = gr.update(choices=[(_named(each), each.id) for each in reversed(known)], value=known[-1].id if known else None)
        return searches_shown, gr.update(choices=names, value=label if label in names else (names[0] if names else None))

    def look(self, search_id: int | None, after: int | None = None) -> tuple[Any, ...]:
        """The look-alikes of a search, and the next that nobody has decided on behind ``after``."""
        if search_id is None:
            return None, text.note("No search yet: draw a box above."), "", ""
        with self._context.workspace.session(write=False) as session:
            found = hits(session, search_id)
        return *_current(found, after), ""

    def accept(self, search_id: int | None, hit_id: int | None, name: str | None, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Make the look-alike a box of the class ``name``."""
        classes = workspace_classes(self._context)
        if classes is None or name not in classes.names:
            raise BadInput("no class for a yes", expected="one of the workspace's classes", remedy="Name the classes on the page Review")
        answer = self._decide(search_id, hit_id, classes.names.index(name), visitor(request))
        return *answer, text.done(f"Kept as {name}; it is shown on its tile from now on.")

    def refuse(self, search_id: int | None, hit_id: int | None, request: gr.Request | None = None) -> tuple[Any, ...]:
        """Set the look-alike aside."""
        return *self._decide(search_id, hit_id, None, visitor(request)), text.done("Noted: not one of them.")

    def _decide(self, search_id: int | None, hit_id: int | None, label: int | None, annotator: str) -> tuple[Any, ...]:
        if hit_id is None or search_id is None:
            raise UsageError("no look-alike to decide on", expected="a search with open look-alikes", remedy="Find some first")
        with self._context.workspace.session() as session:
            decide(session, hit_id, accept=label is not None, label=label, annotator=annotator)
        return self.look(search_id)[:-1]


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Find look-alikes")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        with gr.Column(scale=3):
            picture = surface(single_box=True, elem_id="drawing")
        with gr.Column(scale=1, min_width=260):
            with gr.Row():
                number = gr.Number(None, label="Tile", precision=0, minimum=1, elem_id="tile-number", min_width=80)
                open_tile = gr.Button("Open", elem_id="open-tile", min_width=80)
            gr.Markdown("Draw one box around one object.")
            most = gr.Number(40, label="Look-alikes at most", precision=0, minimum=1, maximum=500)
            find = gr.Button("Find look-alikes of the box", variant="primary", elem_id="find")
            search = gr.Dropdown([], label="Search", elem_id="search", interactive=True)
    follow_here = gr.Column()
    gr.Markdown("## Is it one?")
    hit = gr.State(None)
    with gr.Row():
        with gr.Column(scale=1):
            shown = gr.HTML(elem_id="hit")
            label = gr.Dropdown([], label="A yes is a", elem_id="label", interactive=True)
            with gr.Row():
                yes, no = gr.Button("Yes", variant="primary", elem_id="yes"), gr.Button("No", elem_id="no")
                later = gr.Button("Next", elem_id="skip")
        with gr.Column(scale=2):
            gallery = gr.HTML(elem_id="hits")
    with follow_here:
        follow(context, blocks, verbs={"search"}, refresh=actions.refresh, inputs=[label], outputs=[search, label], shown=1)
    tile, decided = [number, picture, news], [hit, shown, gallery, news]

    def on(
        event: Any, action: Callable[..., Any], inputs: Any, outputs: list[Any], *, changes: bool = False, preprocess: bool = True
    ) -> None:
        listener = context.answer(action, outputs=len(outputs), changes=changes)
        event(listener, inputs=inputs, outputs=outputs, preprocess=preprocess, api_visibility="private")

    on(blocks.load, actions.visit, None, tile)
    on(open_tile.click, actions.open, number, tile)
    on(find.click, actions.start, [picture, number, most], [news], changes=True, preprocess=False)
    on(search.change, actions.look, search, decided)
    on(later.click, actions.look, [search, hit], decided)
    on(yes.click, actions.accept, [search, hit, label], decided, changes=True)
    on(no.click, actions.refuse, [search, hit], decided, changes=True)


def _named(search: SearchRecord) -> str:
    return f"{search.id}: tile {search.tile_id}, {search.hits} look-alikes"


def _current(found: list[HitRecord], after: int | None) -> tuple[Any, ...]:
    """The next look-alike that nobody has decided on, behind the one ``after``, large; and all of them with what was said."""
    open_ones = [each for each in found if each.decision is None]
    behind = [each for each in open_ones if after is None or each.position > _position(found, after)] or open_ones
    pictures = [
        (f"/hits/{each.id}.png?width={HIT_PIXELS}", f"{each.score:.2f} {each.decision or ''}".strip(), f"/review?tile={each.tile.id}")
        for each in found
    ]
    everything = text.gallery(pictures, width=HIT_PIXELS)
    if not behind:
        return None, text.note(f"All {len(found)} look-alikes are decided." if found else "This search found nothing."), everything
    current = behind[0]
    large = text.gallery([(f"/hits/{current.id}.png?width=420", f"score {current.score:.2f} · {current.tile.scene_name}")], width=420)
    return current.id, text.note(f"{len(found) - len(open_ones)} of {len(found)} decided") + large, everything


def _position(found: list[HitRecord], hit_id: int) -> int:
    return next((each.position for each in found if each.id == hit_id), -1)
