"""The imagery page: archives and labels in, what was set aside and why, and the tiles."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from engine.catalog.browse import tile_page
from engine.catalog.summary import set_aside_files
from engine.catalog.tiles import TileRecord
from engine.errors import BadInput, UsageError

__all__ = ["TILES_A_PAGE", "Actions", "add"]

TILES_A_PAGE = 100
THUMBNAIL_PIXELS = 128
SET_ASIDE_SHOWN = 50
EVERY_SPLIT = "every split"
LOOKED_AT = {"all": None, "looked at": True, "not yet": False}


class Actions:
    """What the page does; the line of news is each answer's last part."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def show(self, number: float | None, split: str, seen: str) -> tuple[int, str, str]:
        """A page of the tiles under the filters, and what was set aside."""
        return *_tiles(self._context, int(number or 1), split, seen), _set_aside(self._context)

    def take_in(self, uploaded: str | None, typed: str, side: float, overlap: float) -> tuple[Any, str, str]:
        """Queue the upload, or the path on the server."""
        source = _source(self._context, uploaded, typed)
        self._context.jobs.enqueue("ingest", {"tile": int(side), "overlap": int(overlap)}, inputs={"source": str(source)})
        return None, "", text.done(f"{source.name} is queued to be taken in.")

    def bring_labels(self, uploaded: str | None, withhold: bool) -> tuple[Any, str]:
        """Queue a label file."""
        if not uploaded:
            raise UsageError("no label file", expected="a label file, or a zip of one or of a folder of them", remedy="Choose one first")
        file = _keep(self._context, Path(uploaded))
        self._context.jobs.enqueue("labels-import", {"withhold": withhold}, inputs={"file": str(file)})
        return None, text.done("The labels are queued to be brought in.")


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Imagery")
    cap = context.settings.upload_bytes.human_readable()
    news = gr.HTML(elem_id="news")
    with gr.Row():
        with gr.Column():
            upload = gr.File(
                label=f"An archive (zip, tar) or a picture, up to {cap}", type="filepath", elem_id="upload-imagery", height=160
            )
            path = gr.Textbox(label="… or a folder, archive or picture of any size on the server", placeholder="/data/flights/2024.zip")
            with gr.Row():
                side = gr.Number(320, label="Tile side in pixels", precision=0, minimum=32)
                overlap = gr.Number(64, label="Overlap in pixels", precision=0, minimum=0)
            take_in = gr.Button("Take it in", variant="primary", elem_id="ingest")
        with gr.Column():
            labels = gr.File(
                label="Labels: COCO, iSAID, VOC, GeoPackage, GeoJSON, or a zip of YOLO, DOTA, VOC or shapefile",
                type="filepath",
                elem_id="upload-labels",
                height=160,
            )
            withhold = gr.Checkbox(False, label="Withhold those on training ground, for a simulation with the oracle")
            bring = gr.Button("Bring the labels in", elem_id="labels-import")
    jobs_here = gr.Column()
    gr.Markdown("## Tiles")
    with gr.Row():
        split = gr.Dropdown([EVERY_SPLIT, "train", "dev", "test"], value=EVERY_SPLIT, label="Split", elem_id="split")
        seen = gr.Dropdown(list(LOOKED_AT), value="all", label="Looked at", elem_id="seen")
        number = gr.Number(1, label="Page", precision=0, minimum=1, elem_id="tile-page")
    pictures = gr.HTML(elem_id="tiles")
    with gr.Row():
        earlier, later = gr.Button("Earlier tiles"), gr.Button("Later tiles")
    gr.Markdown("## Set aside")
    set_aside = gr.HTML(elem_id="set-aside")
    filters, page = [number, split, seen], [number, pictures, set_aside]
    with jobs_here:
        follow(context, blocks, verbs={"ingest", "labels-import"}, refresh=actions.show, inputs=filters, outputs=page)

    def on(event: Any, action: Callable[..., Any], inputs: list[Any], outputs: list[Any], *, changes: bool = False) -> None:
        event(context.answer(action, outputs=len(outputs), changes=changes), inputs=inputs, outputs=outputs, api_visibility="private")

    on(number.submit, actions.show, filters, page)
    on(split.change, lambda *chosen: actions.show(1, *chosen), filters[1:], page)
    on(seen.change, lambda *chosen: actions.show(1, *chosen), filters[1:], page)
    on(earlier.click, lambda shown, *chosen: actions.show((shown or 1) - 1, *chosen), filters, page)
    on(later.click, lambda shown, *chosen: actions.show((shown or 1) + 1, *chosen), filters, page)
    on(take_in.click, actions.take_in, [upload, path, side, overlap], [upload, path, news], changes=True)
    on(bring.click, actions.bring_labels, [labels, withhold], [labels, news], changes=True)


def _source(context: PageContext, uploaded: str | None, typed: str) -> Path:
    if uploaded and typed.strip():
        raise UsageError("an upload and a path on the server", expected="one of them", remedy="Clear one")
    if uploaded:
        return _keep(context, Path(uploaded))
    if not typed.strip():
        raise UsageError("nothing to take in", expected="an upload, or a path on the server", remedy="Choose a file, or type a path")
    return _on_the_server(context, Path(typed.strip()))


def _on_the_server(context: PageContext, path: Path) -> Path:
    """A path that this visitor may name: anything for somebody on this machine, else only below the folders set for it."""
    if context.local:
        return path.expanduser().absolute()
    resolved = path.resolve()
    if any(resolved.is_relative_to(Path(folder).resolve()) for folder in context.settings.import_folders):
        return resolved
    raise BadInput(
        f"{path} is outside the folders that may be taken in from here",
        expected=f"a path below one of {[str(folder) for folder in context.settings.import_folders]}",
        remedy="Upload the archive, or have TILEHAWK_IMPORT_FOLDERS set on the server",
    )


def _keep(context: PageContext, uploaded: Path) -> Path:
    """Move an upload out of the page's own cache, where it would be swept away, into a folder that jobs read from."""
    folder = context.workspace.uploads / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        return Path(shutil.move(uploaded, folder / uploaded.name))
    except OSError as failed:
        raise BadInput(f"the upload {uploaded.name} could not be kept: {failed.strerror}", remedy="Upload it again") from failed


def _set_aside(context: PageContext) -> str:
    with context.workspace.session(write=False) as session:
        shown = set_aside_files(session, limit=SET_ASIDE_SHOWN + 1)
    if not shown:
        return text.note("No file was set aside.")
    left = text.note("and more: tilehawk status --json") if len(shown) > SET_ASIDE_SHOWN else ""
    return text.table(["Source", "File", "Reason"], [(each.source, each.name, each.reason) for each in shown[:SET_ASIDE_SHOWN]]) + left


def _tiles(context: PageContext, number: int, split: str, seen: str) -> tuple[int, str]:
    """The page ``number`` (from 1, brought into range) of the tiles, and the number that is shown."""
    chosen = {"split": None if split == EVERY_SPLIT else split, "reviewed": LOOKED_AT[seen]}
    with context.workspace.session(write=False) as session:
        total = tile_page(session, limit=0, **chosen).total  # type: ignore[arg-type]
        last = max(1, -(-total // TILES_A_PAGE))
        number = min(max(number, 1), last)
        page = tile_page(session, limit=TILES_A_PAGE, offset=(number - 1) * TILES_A_PAGE, **chosen)  # type: ignore[arg-type]
    if not total:
        return 1, text.note("No tile yet." if split == EVERY_SPLIT and seen == "all" else "No tile of this kind.")
    pictures = [
        (
            f"/tiles/{tile.id}.png?width={THUMBNAIL_PIXELS}",
            _caption(tile, tile.id in page.reviewed),
            f"/review?tile={tile.id}",
        )
        for tile in page.tiles
    ]
    return number, text.note(f"Page {number} of {last}, {total} tiles") + text.gallery(pictures, width=THUMBNAIL_PIXELS)


def _caption(tile: TileRecord, reviewed: bool) -> str:
    return f"{tile.id} · {tile.scene_name} · {tile.window.x}, {tile.window.y} · {tile.split}{' · looked at' if reviewed else ''}"
