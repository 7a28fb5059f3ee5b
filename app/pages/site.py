"""The whole site: one page a topic, each with an address of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from app import roles
from app.pages import annotators, budget, export, find, imagery, overview, results, review, rounds, text, training
from app.pages.context import PageContext, visitor
from app.roles import OPERATOR, Role, may
from engine.errors import NotAllowed

__all__ = ["HEAD", "PAGES", "STYLE", "build"]

PAGES: dict[str, tuple[str, Callable[[PageContext, gr.Blocks], None]]] = {
    "": ("Overview", overview.add),
    "imagery": ("Imagery", imagery.add),
    "review": ("Review", review.add),
    "training": ("Training", training.add),
    "find": ("Find", find.add),
    "budget": ("Budget", budget.add),
    "rounds": ("Rounds", rounds.add),
    "results": ("Results", results.add),
    "annotators": ("Annotators", annotators.add),
    "export": ("Export", export.add),
}
"""Path → title and what fills the page."""
HEAD = (
    '<script src="/web/uploads.js" defer></script><script src="/web/keys.js" defer></script>'
    '<script src="/web/labeller.js" defer></script><link rel="stylesheet" href="/web/labeller.css">'
)
HOURS_UPLOADS_ARE_KEPT = 24
STYLE = """
.card { border: 1px solid #8886; border-left-width: 4px; border-radius: 4px; padding: .5rem .8rem; margin: .3rem 0; }
.card.problem { border-left-color: #c0392b; }
.card.done { border-left-color: #1e8449; }
.card.readonly { border-left-color: #b9770e; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: .4rem 0; }
.figures div { border: 1px solid #8886; border-radius: 4px; padding: .4rem .7rem; }
.figures strong { display: block; font-size: 1.35rem; line-height: 1.3; overflow-wrap: anywhere; }
.figures span { font-size: .8rem; opacity: .8; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .6rem; }
.tile { display: flex; gap: .7rem; border: 1px solid #8886; border-radius: 4px; overflow: hidden; font-size: .82rem; line-height: 1.35; }
.tile > a { flex: 0 0 7rem; background: #8882; }
.tile img { width: 7rem; height: 7rem; object-fit: contain; display: block; margin: 0; }
.tile p { margin: .25rem .5rem .25rem 0; overflow-wrap: anywhere; }
.tile em { font-style: normal; border: 1px solid #8886; border-radius: 999px; padding: 0 .45rem; margin-left: .4rem; font-size: .72rem; }
.legend span { margin-right: 1.2rem; }
.legend i { display: inline-block; width: 5rem; height: .8rem; margin-right: .4rem; vertical-align: middle; }
.wide { overflow-x: auto; }
tilehawk-upload { display: grid; gap: .5rem; }
tilehawk-upload [hidden] { display: none; }
.upload-drop { display: grid; gap: .5rem; border: 2px dashed #8888; border-radius: 6px; padding: 1rem; cursor: pointer; }
.upload-drop.over { border-color: #1e8449; background: #1e844922; }
.upload-row { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; }
.upload-row { border: 1px solid #8886; border-radius: 4px; padding: .5rem .7rem; }
.upload-row strong { overflow-wrap: anywhere; }
.upload-row progress { flex: 1 1 8rem; }
.upload-row .upload-said { flex: 1 0 100%; order: 9; font-size: .85rem; }
.upload-row button { border: 1px solid #8888; border-radius: 4px; padding: .1rem .6rem; }
"""


def build(context: PageContext) -> gr.Blocks:
    """The pages on one workspace; each reads the catalog anew at every visit, so that a reload loses nothing."""
    lifetime = HOURS_UPLOADS_ARE_KEPT * 3600
    blocks = gr.Blocks(title="Tilehawk", analytics_enabled=False, fill_width=True, delete_cache=(3600, lifetime))
    for path, (title, fill) in PAGES.items():
        with blocks if not path else blocks.route(title, path, show_in_navbar=context.local):
            _navigation(context, blocks)
            _banner(context, blocks)
            fill(context, blocks)
    _guard_events(context, blocks)
    return blocks


def _navigation(context: PageContext, blocks: gr.Blocks) -> None:
    """Links to the pages that the visitor may open: all of them at once where nobody needs a login."""
    home = PAGES[""][0]
    if context.local:
        gr.Navbar(main_page_name=home)
        return
    bar = gr.Navbar(main_page_name=home)

    def links(request: gr.Request) -> Any:
        role = context.role_of(visitor(request))
        return gr.update(value=[(title, path) for path, (title, _) in PAGES.items() if path and may(role, roles.PAGES.get(path, OPERATOR))])

    blocks.load(links, outputs=bar, show_progress="hidden", api_visibility="private")


def _guard_events(context: PageContext, blocks: gr.Blocks) -> None:
    """No page is asked for anything by somebody who may not open it, whatever its own events say."""
    for event in blocks.fns.values():
        if event.fn is not None:
            title, needs = PAGES[event.page][0], roles.PAGES.get(event.page, OPERATOR)
            event.fn = _allowed(context, event.fn, f"The page {title}", needs)


def _allowed(context: PageContext, asked: Callable[..., Any], what: str, needs: Role) -> Callable[..., Any]:
    @functools.wraps(asked)
    def answered(*values: Any, **named: Any) -> Any:
        try:
            context.require(needs, what)
        except NotAllowed as refused:
            raise gr.Error(str(refused), print_exception=False) from refused
        return asked(*values, **named)

    return answered


def _banner(context: PageContext, blocks: gr.Blocks) -> None:
    """Why nothing can be changed here, where that is so; looked at every second."""
    banner = gr.HTML(elem_id="banner")

    def look() -> str:
        why = context.read_only()
        return text.card(f"Read only: {why}", "", kind="readonly") if why else ""

    blocks.load(look, outputs=banner, show_progress="hidden", api_visibility="private")
    gr.Timer(2.0).tick(look, outputs=banner, show_progress="hidden", queue=False, api_visibility="private")
