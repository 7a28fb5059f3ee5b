"""The overview page: what is in the workspace, what the rounds bought, which models there are, and the tiles."""

from __future__ import annotations

import gradio as gr

from app.pages import text
from app.pictures import curve_points
from engine.catalog.splits import NO_SPLIT
from engine.catalog.summary import WorkspaceSummary, set_aside_files, summarize, tile_page
from engine.catalog.workspace import Workspace

__all__ = ["page"]

TILES_A_PAGE = 24
SET_ASIDE_SHOWN = 50


def page(workspace: Workspace) -> gr.Blocks:
    """The page, built anew from the catalog at every visit."""

    def overview() -> tuple[str, str, str, str]:
        summary = summarize(workspace)
        return _counts(summary), _rounds(summary), _models(summary), _set_aside(workspace, summary)

    with gr.Blocks(title="Tilehawk", analytics_enabled=False) as blocks:
        number = gr.State(0)
        gr.Markdown("# Tilehawk")
        counts = gr.HTML(elem_id="counts")
        gr.Markdown("## Rounds")
        rounds = gr.HTML(elem_id="rounds")
        gr.Markdown("## Models")
        models = gr.HTML(elem_id="models")
        gr.Markdown("## Tiles")
        pictures = gr.HTML(elem_id="tiles")
        with gr.Row():
            earlier = gr.Button("Earlier tiles")
            later = gr.Button("Later tiles")
        gr.Markdown("## Set aside")
        set_aside = gr.HTML(elem_id="set-aside")
        blocks.load(overview, outputs=[counts, rounds, models, set_aside], api_visibility="private")
        blocks.load(lambda: _tiles(workspace, 0), outputs=[number, pictures], api_visibility="private")
        earlier.click(lambda shown: _tiles(workspace, shown - 1), inputs=number, outputs=[number, pictures], api_visibility="private")
        later.click(lambda shown: _tiles(workspace, shown + 1), inputs=number, outputs=[number, pictures], api_visibility="private")
    return blocks


def _counts(summary: WorkspaceSummary) -> str:
    return text.definitions(
        {
            "Workspace": summary.workspace,
            "Scenes": summary.scenes,
            "Tiles": summary.tiles,
            "Tiles looked at": summary.reviewed,
            "Boxes": summary.annotations,
            "At work": summary.busy or "nobody",
        }
    )


def _rounds(summary: WorkspaceSummary) -> str:
    if not summary.rounds:
        return text.note("No round yet: tilehawk rank chooses the first tiles to annotate.")
    columns = ["Round", "Strategy", "State", "Tiles", "Budget s", "Expected s", "Measured s", "AP", "AP50"]
    rows = [
        (
            each.number,
            each.strategy,
            each.state,
            each.tiles,
            each.budget_seconds,
            each.estimated_seconds,
            each.measured_seconds,
            each.metrics.get("ap"),
            each.metrics.get("ap50"),
        )
        for each in summary.rounds
    ]
    curve = text.gallery([("/curve.png", "Learning curve: average precision over annotator minutes")], width=640)
    return text.table(columns, rows) + (curve if curve_points(summary.rounds) else "")


def _models(summary: WorkspaceSummary) -> str:
    if not summary.models:
        return text.note("No model yet: tilehawk pretrain, then tilehawk finetune.")
    rows = [(each.name, each.stage, *(each.metrics.get("test", {}).get(metric) for metric in ("ap", "ap50"))) for each in summary.models]
    return text.table(["Model", "Stage", "AP on test ground", "AP50 on test ground"], rows)


def _set_aside(workspace: Workspace, summary: WorkspaceSummary) -> str:
    if not summary.set_aside:
        return text.note("No file was set aside.")
    with workspace.session(write=False) as session:
        shown = set_aside_files(session, limit=SET_ASIDE_SHOWN)
    left = summary.set_aside - len(shown)
    return text.table(["Source", "File", "Reason"], [(each.source, each.name, each.reason) for each in shown]) + (
        text.note(f"and {left} more: tilehawk status --json") if left else ""
    )


def _tiles(workspace: Workspace, number: int) -> tuple[int, str]:
    """The page ``number`` (from 0, brought into range) of the tiles, and the number that is shown."""
    counts = summarize(workspace).tiles
    total = sum(count for split, count in counts.items() if split != NO_SPLIT)
    if not total:
        return 0, text.note("No tile yet: tilehawk ingest ARCHIVE_OR_FOLDER.")
    last = (total - 1) // TILES_A_PAGE
    number = min(max(number, 0), last)
    with workspace.session(write=False) as session:
        shown = tile_page(session, limit=TILES_A_PAGE, offset=number * TILES_A_PAGE)
    pictures = [(f"/tiles/{tile.id}.png", f"{tile.scene_name} · {tile.window.x}, {tile.window.y} · {tile.split}") for tile in shown]
    return number, text.note(f"Page {number + 1} of {last + 1}, {total} tiles") + text.gallery(pictures)
