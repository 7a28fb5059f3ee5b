"""The review page: one tile, its boxes and the detector's suggestions; drawn, moved, relabelled, deleted, accepted, complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.pages.context import PageContext
from app.pages.drawing import surface
from app.pages.keyboard import Shortcut, legend
from app.pages.reviewing import Actions, Opened
from app.pages.tile_versions import with_history
from app.pages.working import counted
from app.roles import Role

__all__ = ["SHORTCUTS", "add"]

SHORTCUTS = (
    Shortcut(("enter",), "#complete", "This tile is complete: save it, open the next", hint="complete"),
    Shortcut(("s",), "#save", "Save; the tile stays open", hint="save"),
    Shortcut(("n", "arrowright"), "#next-tile", "Next tile in the queue, without saving: what you drew is kept as a draft", hint="next"),
    Shortcut(("p", "arrowleft"), "#previous-tile", "The tile that was open before this one", hint="previous"),
    Shortcut(("c",), "#drawing button[aria-label='Create box']", "Draw boxes", hint="draw"),
    Shortcut(("d",), "#drawing button[aria-label='Drag boxes']", "Select, move and resize boxes", hint="move"),
    Shortcut(("delete", "backspace"), "remove", "Delete the selected box"),
    Shortcut(("z", "ctrl+z"), "undo", "Undo the last change of the boxes on this tile", hint="undo"),
    Shortcut(("y", "shift+z", "ctrl+y", "ctrl+shift+z"), "redo", "Redo it"),
    Shortcut(("a",), "accept", "Accept the selected suggestion, or the next one", hint="accept"),
    Shortcut(("shift+a",), "acceptAll", "Accept all suggestions that are left"),
    Shortcut(("x",), "dropAll", "Drop all suggestions that are left"),
    Shortcut(("h",), "hide", "Hide the boxes, show them again"),
    Shortcut(("?",), "help", "All keys"),
)
DIGITS = "The class of the selected box; where none is selected, of new boxes"
SENT = "(...values) => { window.tilehawkLabeller?.sent(); return (COUNT)(...values); }"
COUNTLESS = "(...values) => values"
OPENED = "(value, facts) => { window.tilehawkLabeller?.opened(value, facts); }"
FAILED = "() => { window.tilehawkLabeller?.answered(); }"


@dataclass(frozen=True)
class _Parts:
    """The components that more than one listener needs, in the order of the outputs of :class:`app.pages.reviewing.Actions`."""

    number: Any
    picture: Any
    about: Any
    opened: Any
    queue: Any
    new: Any
    naming: Any
    classes: Any
    facts: Any
    history: Any
    news: Any

    @property
    def outputs(self) -> list[Any]:
        return list(vars(self).values())


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Review")
    news = gr.HTML(elem_id="news")
    with gr.Group(visible=False) as naming:
        names = gr.Textbox(label="The classes of this workspace, separated by commas; they stay as they are", elem_id="class-names")
        name_them = gr.Button("Name the classes", elem_id="name-classes")
    opened, facts, count = gr.State(None), gr.JSON(None, visible=False), gr.Number(0, visible=False)
    gr.HTML(legend(SHORTCUTS, digits=DIGITS), elem_id="keys", padding=False)
    with gr.Row():
        with gr.Column(scale=3, min_width=640):
            picture = surface(single_box=False, elem_id="drawing")
        with gr.Column(scale=1, min_width=260):
            complete = gr.Button("This tile is complete", variant="primary", elem_id="complete")
            with gr.Row():
                save = gr.Button("Save", elem_id="save", min_width=80)
                following = gr.Button("Next", elem_id="next-tile", min_width=80)
                previous = gr.Button("Previous", elem_id="previous-tile", min_width=80)
            gr.HTML('<p id="said" role="status" aria-live="polite"></p><p id="unsaved" hidden>Not saved yet; kept in this browser.</p>')
            new = gr.Dropdown([], label="A new box is a", interactive=True, elem_id="new-class")
            classes = gr.HTML(elem_id="classes", padding=False)
            score = gr.Slider(0.05, 0.95, 0.3, step=0.05, label="Suggestions from this score up")
            with gr.Row():
                number = gr.Number(None, label="Tile", precision=0, minimum=1, elem_id="tile-number", min_width=80)
                open_tile = gr.Button("Open", elem_id="open-tile", min_width=80)
            about = gr.HTML(elem_id="tile")
    history, version, go_back = _add_history(context, opened)
    gr.Markdown("## Waiting for a look")
    queue = gr.HTML(elem_id="queue")
    parts = _Parts(number, picture, about, opened, queue, new, naming, classes, facts, history, news)
    _add_script(parts)

    def on(
        event: Any,
        action: Callable[..., Any],
        inputs: list[Any],
        *,
        changes: bool = False,
        needs: Role = "annotator",
        preprocess: bool = True,
    ) -> None:
        listener = context.answer(action, outputs=actions.OUTPUTS, changes=changes, needs=needs)
        script = SENT.replace("COUNT", counted(context.settings.pause_seconds) if inputs[-1] is count else COUNTLESS)
        done = event(listener, inputs=inputs, outputs=parts.outputs, preprocess=preprocess, js=script, api_visibility="private")
        done.then(None, [picture, facts], None, js=OPENED, api_visibility="private")
        done.failure(None, None, None, js=FAILED, api_visibility="private")

    on(blocks.load, actions.visit, [score, count])
    on(open_tile.click, actions.open, [number, score, opened, count])
    on(score.release, actions.open, [number, score, opened, count])
    on(following.click, actions.following, [opened, score, count])
    on(previous.click, actions.previous, [opened, score, count])
    on(save.click, actions.save, [picture, opened, new, count], changes=True, preprocess=False)
    on(complete.click, actions.complete, [picture, opened, new, score, count], changes=True, preprocess=False)
    on(go_back.click, actions.go_back, [version, opened, score, count], changes=True)
    on(name_them.click, actions.name_classes, [names], changes=True, needs="engineer")


def _add_history(context: PageContext, opened: gr.State) -> tuple[Any, Any, Any]:
    """The tile's history, folded; it is read when it is unfolded."""
    with gr.Accordion("History of this tile", open=False, elem_id="history") as history:
        table = gr.HTML(elem_id="versions")
        with gr.Row():
            version = gr.Dropdown([], label="An earlier version", interactive=True, elem_id="version")
            go_back = gr.Button("Go back to this version", elem_id="go-back")

    def versions(before: Opened | None) -> tuple[str, Any]:
        return with_history(context, before.tile_id if before else None)

    history.expand(versions, inputs=opened, outputs=[table, version], api_visibility="private")
    return history, version, go_back


def _add_script(parts: _Parts) -> None:
    """What web/labeller.js reads and sets the surface and the class of new boxes by: buttons that nobody sees."""
    apply, look, chosen = (gr.Button(visible="hidden", elem_id=f"surface-{name}") for name in ("apply", "look", "class"))
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    apply.click(None, [parts.picture], [parts.picture], js="value => window.tilehawkLabeller?.apply(value)", **private)
    look.click(None, [parts.picture], None, js="value => { window.tilehawkLabeller?.look(value); }", **private)
    chosen.click(None, None, [parts.new], js="() => window.tilehawkLabeller?.className()", **private)
    parts.picture.change(None, None, None, js="() => { window.tilehawkLabeller?.changed(); }", **private)
