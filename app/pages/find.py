"""The find page: a box drawn around one object, its look-alikes in the archive, yes or no to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.pages.context import PageContext
from app.pages.drawing import surface
from app.pages.finding import Actions, Asked
from app.pages.hit_cards import STEP
from app.pages.jobs import follow
from app.pages.keyboard import Shortcut, legend
from app.pages.working import counted
from app.roles import Role

__all__ = ["SHORTCUTS", "add"]

SECONDS_BETWEEN_LOOKS = 2.0
SHORTCUTS = (
    Shortcut(("y",), "#yes", "Yes: it becomes a box of the class, and the next is asked", hint="yes"),
    Shortcut(("n",), "#no", "No: it is set aside, and the next is asked", hint="no"),
    Shortcut(("space", "arrowright"), "#skip", "The next look-alike; this one stays undecided", hint="next"),
    Shortcut(("arrowleft",), "#back", "The one before; decides nothing", hint="before"),
    Shortcut(("z", "ctrl+z"), "#take-back", "Take your last decision back", hint="undo"),
    Shortcut(("?",), "help", "All keys"),
)


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Find look-alikes")
    news = gr.HTML(elem_id="news")
    asked, awaited, confirmed, opened = gr.State(Asked()), gr.State(None), gr.State(None), gr.State(None)
    count = gr.Number(0, visible=False)
    with gr.Accordion("Search for something: draw one box around one object", open=True, elem_id="drawing-fold") as fold:
        picture, number, most, open_tile, find = _add_drawing()
    gr.HTML(legend(SHORTCUTS), elem_id="keys", padding=False)
    with gr.Row():
        with gr.Column(scale=2, min_width=580):
            shown = gr.HTML(elem_id="hit", padding=False)
            with gr.Row():
                yes = gr.Button("Yes", variant="primary", elem_id="yes", min_width=80)
                no = gr.Button("No", elem_id="no", min_width=80)
                back, later = gr.Button("Back", elem_id="back", min_width=80), gr.Button("Next", elem_id="skip", min_width=80)
                undo = gr.Button("Undo", elem_id="take-back", min_width=80)
        with gr.Column(scale=2, min_width=420):
            with gr.Row():
                search = gr.Dropdown([], label="Search", elem_id="search", interactive=True)
                label = gr.Dropdown([], label="A yes is a", elem_id="label", interactive=True)
            standing, score, everything, confirm, question, do_it, leave, tiles, send = _add_many()
            follow_here = gr.Column()
    gallery = gr.HTML(elem_id="hits")
    decided = [asked, shown, gallery, standing, score, everything, news]
    with follow_here:
        given, choices = [label, search, awaited], [search, label, awaited, fold]
        follow(context, blocks, verbs={"search"}, refresh=actions.refresh, inputs=given, outputs=choices, shown=1, preprocess=False)

    def on(
        event: Any,
        action: Callable[..., Any],
        inputs: list[Any],
        outputs: list[Any],
        *,
        changes: bool = False,
        needs: Role = "annotator",
    ) -> Any:
        listener = context.answer(action, outputs=len(outputs), changes=changes, needs=needs)
        script = counted(context.settings.pause_seconds) if inputs and inputs[-1] is count else None
        return event(listener, inputs=inputs, outputs=outputs, preprocess=False, js=script, api_visibility="private")

    on(blocks.load, actions.visit, [], [number, picture, opened, fold, news])
    on(open_tile.click, actions.open, [number], [number, picture, opened, news])
    on(find.click, actions.start, [picture, opened, most], [awaited, news], changes=True)
    on(search.change, actions.look, [search, asked, count], decided)
    on(yes.click, actions.accept, [asked, label, count], decided, changes=True)
    on(no.click, actions.refuse, [asked, count], decided, changes=True)
    on(later.click, lambda now: actions.move(now, 1), [asked], decided)
    on(back.click, lambda now: actions.move(now, -1), [asked], decided)
    on(undo.click, actions.take_back, [asked], decided, changes=True)
    on(score.release, actions.limit, [asked, score], decided)
    on(everything.click, actions.ask_for_all, [asked, label], [confirmed, confirm, question, news])
    on(do_it.click, actions.accept_all, [asked, confirmed, label], decided, changes=True)
    for answered in (do_it.click, leave.click, search.change, label.change, score.release):
        answered(lambda: gr.update(visible=False), outputs=confirm, api_visibility="private", show_progress="hidden")
    on(send.click, actions.send, [asked, tiles], [news], changes=True, needs="manager")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
    gr.Timer(SECONDS_BETWEEN_LOOKS).tick(actions.grown, inputs=asked, outputs=decided[:-1], **quiet)
    gr.Timer(SECONDS_BETWEEN_LOOKS).tick(actions.arrived, inputs=given, outputs=choices, **quiet)


def _add_drawing() -> tuple[Any, ...]:
    """The tile to draw on, its number, how many look-alikes at most, and the buttons that open one and start the search."""
    with gr.Row():
        with gr.Column(scale=3):
            picture = surface(single_box=True, elem_id="drawing")
        with gr.Column(scale=1, min_width=260):
            with gr.Row():
                number = gr.Number(None, label="Tile", precision=0, minimum=1, elem_id="tile-number", min_width=80)
                open_tile = gr.Button("Open", elem_id="open-tile", min_width=80)
            most = gr.Number(40, label="Look-alikes at most", precision=0, minimum=1, maximum=500)
            find = gr.Button("Find look-alikes of the box", variant="primary", elem_id="find")
    return picture, number, most, open_tile, find


def _add_many() -> tuple[Any, ...]:
    """How far one is, the slider of scores, a yes to all above it with its question, and near misses for annotators."""
    standing = gr.HTML(elem_id="standing", padding=False)
    score = gr.Slider(0, 1, 0, step=STEP, label="Look-alikes from this score up", elem_id="score")
    everything = gr.Button("Yes to all …", elem_id="yes-to-all", interactive=False)
    with gr.Group(visible=False, elem_id="confirm") as confirm:
        question = gr.HTML(elem_id="question")
        with gr.Row():
            do_it = gr.Button("Yes, all of them", variant="primary", elem_id="confirm-all", min_width=80)
            leave = gr.Button("No, leave them", elem_id="leave-all", min_width=80)
    with gr.Row():
        tiles = gr.Number(20, label="Tiles with near misses", precision=0, minimum=1, maximum=1000, min_width=120)
        send = gr.Button("Send them to annotators", elem_id="send", min_width=120)
    return standing, score, everything, confirm, question, do_it, leave, tiles, send
