"""The history of a tile, as the page Review shows it folded under the picture."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from engine.catalog.history import TileVersion, tile_history

__all__ = ["choices", "versions_table", "when", "with_history"]


def when(at: float) -> str:
    """A time in words: day and minute, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def versions_table(versions: list[TileVersion]) -> str:
    """Who did what, when and where, the newest first."""
    if not versions:
        return text.note("Nobody has saved this tile yet.")
    rows = [
        (
            when(each.at) if each.at is not None else "",
            each.by,
            each.act,
            "" if each.source == each.by else each.source,
            each.boxes,
            ", ".join(f"{count} {name}" for name, count in each.changes.items()),
        )
        for each in versions
    ]
    return text.scrolled(text.table(["When", "Who", "What", "Where", "Boxes", "Changes"], rows))


def choices(versions: list[TileVersion]) -> list[tuple[str, int]]:
    """(label, number) of the versions that one can go back to: not the newest save, which is what is there."""
    known = [each for each in versions if each.number is not None]
    return [(_named(each), each.number) for each in known[1:] if each.number is not None]


def _named(version: TileVersion) -> str:
    boxes = f"{version.boxes} box{'' if version.boxes == 1 else 'es'}"
    return f"{version.act}, {boxes}" if version.at is None else f"{when(version.at)}, {version.by}, {boxes}"


def with_history(context: PageContext, tile_id: int | None) -> tuple[str, Any]:
    """The table of a tile's versions, and those to choose from."""
    if tile_id is None:
        return text.note("No tile is open."), gr.update(choices=[], value=None)
    with context.workspace.session(write=False) as session:
        versions = tile_history(session, int(tile_id))
    offered = choices(versions)
    return versions_table(versions), gr.update(choices=offered, value=offered[0][1] if offered else None)
