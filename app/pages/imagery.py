"""The imagery page: archives and labels in, what was set aside and why, the scenes, and the tiles under a filter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import gradio as gr

from app.announcements import UploadLimits
from app.arrivals import Arrivals
from app.pages import text
from app.pages.context import PageContext, visitor
from app.pages.jobs import follow
from engine.catalog.annotations import label_set
from engine.catalog.browse import SceneSummary, scene_page, tile_page
from engine.catalog.rounds import rounds
from engine.catalog.schema import LabelSetRow
from engine.catalog.summary import set_aside_files
from engine.catalog.tiles import TileRecord
from engine.errors import BadInput, UsageError

__all__ = ["EVERY_CLASS", "EVERY_ROUND", "EVERY_SPLIT", "TILES_A_PAGE", "Actions", "add"]

TILES_A_PAGE, SCENES_A_PAGE = 100, 20
THUMBNAIL_PIXELS = 128
SET_ASIDE_SHOWN = 50
EVERY_SPLIT, EVERY_CLASS, EVERY_ROUND = "every split", "every class", "every round"
LOOKED_AT = {"all": None, "looked at": True, "not yet": False}
UPLOADED = """(...values) => [...values.slice(0, -1), document.querySelector("#ID tilehawk-upload")?.upload ?? ""]"""
"""Makes the last of a listener's inputs the id of what was uploaded."""
TAKEN = """() => document.querySelector("#ID tilehawk-upload")?.taken()"""


class Actions:
    """What the page does; the line of news is the last part of what changes something."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._arrivals = Arrivals(context.workspace, UploadLimits.of(context.settings))

    def show(
        self, number: float | None, split: str, seen: str, scene: str, shows: str | None, chosen_in: str | None, scenes: float | None
    ) -> tuple[Any, ...]:
        """A page of the tiles and one of the scenes under the filters, what was set aside, and what can be filtered by."""
        with self._context.workspace.session(write=False) as session:
            names = list(label_set(session).names) if session.get(LabelSetRow, 1) is not None else []
            numbers = [str(row.number) for row in rounds(session)]
        filters = {
            "split": None if split == EVERY_SPLIT else split,
            "reviewed": LOOKED_AT[seen],
            "scene": scene.strip(),
            "label": names.index(shows) if shows in names else None,
            "round_number": int(chosen_in) if chosen_in in numbers else None,
        }
        return (
            *_tiles(self._context, int(number or 1), filters),
            *_scenes(self._context, int(scenes or 1), scene.strip()),
            _set_aside(self._context),
            gr.update(choices=[EVERY_CLASS, *names]),
            gr.update(choices=[EVERY_ROUND, *numbers]),
        )

    def take_in(
        self, typed: str, side: float | None, overlap: float | None, uploaded: str | None, request: gr.Request | None = None
    ) -> tuple[str, str]:
        """Queue the path on the server, or the upload."""
        if side is None or overlap is None:
            raise UsageError("no tile side or no overlap", expected="whole numbers of pixels", remedy="Fill both in")
        with self._source(uploaded or "", typed.strip(), visitor(request)) as source:
            self._context.jobs.enqueue("ingest", {"tile": int(side), "overlap": int(overlap)}, inputs={"source": str(source)})
        return "", text.done(f"{source.name} is queued to be taken in.")

    def bring_labels(self, withhold: bool, uploaded: str | None, request: gr.Request | None = None) -> str:
        """Queue a label file."""
        if not uploaded:
            raise UsageError("no label file", expected="a label file, or a zip of one or of a folder of them", remedy="Choose one first")
        with self._arrivals.handing_over(uploaded, visitor(request)) as file:
            self._context.jobs.enqueue("labels-import", {"withhold": withhold}, inputs={"file": str(file)})
        return text.done("The labels are queued to be brought in.")

    def _source(self, uploaded: str, typed: str, by: str) -> AbstractContextManager[Path]:
        if uploaded and typed:
            raise UsageError("an upload and a path on the server", expected="one of them", remedy="Clear one")
        if uploaded:
            return self._arrivals.handing_over(uploaded, by)
        if not typed:
            raise UsageError("nothing to take in", expected="an upload, or a path on the server", remedy="Choose a file, or type a path")
        return nullcontext(_on_the_server(self._context, Path(typed)))


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Imagery")
    news = gr.HTML(elem_id="news")
    path, side, overlap, take_in, withhold, bring = _ways_in(context)
    jobs_here = gr.Column()
    with gr.Row():
        scene = gr.Textbox("", label="Part of a scene's name", elem_id="scene-name")
        split = gr.Dropdown([EVERY_SPLIT, "train", "dev", "test"], value=EVERY_SPLIT, label="Split", elem_id="split")
        seen = gr.Dropdown(list(LOOKED_AT), value="all", label="Looked at", elem_id="seen")
        shows = gr.Dropdown([EVERY_CLASS], value=EVERY_CLASS, label="Shows", elem_id="shows")
        chosen_in = gr.Dropdown([EVERY_ROUND], value=EVERY_ROUND, label="Chosen in round", elem_id="chosen-in")
    gr.Markdown("## Scenes")
    scenes = gr.HTML(elem_id="scenes")
    scenes_number = gr.Number(1, label="Page of scenes", precision=0, minimum=1, elem_id="scene-page")
    gr.Markdown("## Tiles")
    number = gr.Number(1, label="Page of tiles", precision=0, minimum=1, elem_id="tile-page")
    pictures = gr.HTML(elem_id="tiles")
    with gr.Row():
        earlier, later = gr.Button("Earlier tiles"), gr.Button("Later tiles")
    gr.Markdown("## Set aside")
    set_aside = gr.HTML(elem_id="set-aside")
    filters = [number, split, seen, scene, shows, chosen_in, scenes_number]
    page = [number, pictures, scenes_number, scenes, set_aside, shows, chosen_in]
    with jobs_here:
        follow(context, blocks, verbs={"ingest", "labels-import"}, refresh=actions.show, inputs=filters, outputs=page)

    def on(event: Any, action: Callable[..., Any], inputs: list[Any], outputs: list[Any], **options: Any) -> Any:
        changes = options.pop("changes", False)
        listener = context.answer(action, outputs=len(outputs), changes=changes)
        return event(listener, inputs=inputs, outputs=outputs, api_visibility="private", **options)

    def anew(_number: float | None, split: str, seen: str, scene: str, shows: str | None, chosen_in: str | None, _: Any) -> tuple[Any, ...]:
        return actions.show(1, split, seen, scene, shows, chosen_in, 1)

    on(number.submit, actions.show, filters, page)
    on(scenes_number.submit, actions.show, filters, page)
    for event in (split.change, seen.change, scene.submit, shows.input, chosen_in.input):
        on(event, anew, filters, page)
    on(earlier.click, lambda shown, *chosen: actions.show((shown or 1) - 1, *chosen), filters, page)
    on(later.click, lambda shown, *chosen: actions.show((shown or 1) + 1, *chosen), filters, page)
    uploaded = gr.Textbox("", visible=False)
    for button, action, inputs, outputs, place in (
        (take_in, actions.take_in, [path, side, overlap], [path, news], "upload-imagery"),
        (bring, actions.bring_labels, [withhold], [news], "upload-labels"),
    ):
        queued = on(button.click, action, [*inputs, uploaded], outputs, changes=True, js=UPLOADED.replace("ID", place))
        queued.then(None, js=TAKEN.replace("ID", place), api_visibility="private")


def _ways_in(context: PageContext) -> tuple[Any, ...]:
    """Where imagery and labels are chosen: path, tile side, overlap and button; withheld or not, and button."""
    largest = context.settings.upload_bytes
    with gr.Row():
        with gr.Column():
            words = f"Choose an archive (zip, tar) or a picture, up to {largest.human_readable()}, or drop it here"
            gr.HTML(text.uploader("imagery", words, int(largest)), elem_id="upload-imagery")
            path = gr.Textbox(label="… or a folder, archive or picture of any size on the server", placeholder="/data/flights/2024.zip")
            with gr.Row():
                side = gr.Number(320, label="Tile side in pixels", precision=0, minimum=32)
                overlap = gr.Number(64, label="Overlap in pixels", precision=0, minimum=0)
            take_in = gr.Button("Take it in", variant="primary", elem_id="ingest")
        with gr.Column():
            words = "Choose labels: COCO, iSAID, VOC, GeoPackage, GeoJSON, or a zip of YOLO, DOTA, VOC or shapefile, or drop them here"
            gr.HTML(text.uploader("labels", words, int(largest)), elem_id="upload-labels")
            withhold = gr.Checkbox(False, label="Withhold those on training ground, for a simulation with the oracle")
            bring = gr.Button("Bring the labels in", elem_id="labels-import")
    return path, side, overlap, take_in, withhold, bring


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


def _set_aside(context: PageContext) -> str:
    with context.workspace.session(write=False) as session:
        shown = set_aside_files(session, limit=SET_ASIDE_SHOWN + 1)
    if not shown:
        return text.note("No file was set aside.")
    left = text.note("and more: tilehawk status --json") if len(shown) > SET_ASIDE_SHOWN else ""
    return text.table(["Source", "File", "Reason"], [(each.source, each.name, each.reason) for each in shown[:SET_ASIDE_SHOWN]]) + left


def _tiles(context: PageContext, number: int, filters: dict[str, Any]) -> tuple[int, str]:
    """The page ``number`` (from 1, brought into range) of the tiles, and the number that is shown."""
    with context.workspace.session(write=False) as session:
        page = tile_page(session, limit=TILES_A_PAGE, offset=(max(number, 1) - 1) * TILES_A_PAGE, **filters)
        last = max(1, -(-page.total // TILES_A_PAGE))
        if number > last:
            page = tile_page(session, limit=TILES_A_PAGE, offset=(last - 1) * TILES_A_PAGE, **filters)
    if not page.total:
        return 1, text.note("No tile of this kind." if any(each not in (None, "") for each in filters.values()) else "No tile yet.")
    number = min(max(number, 1), last)
    cards = [_card(tile, tile.id in page.reviewed) for tile in page.tiles]
    return number, text.note(f"Page {number} of {last}, {page.total} tiles") + text.tile_cards(cards)


def _card(tile: TileRecord, reviewed: bool) -> text.TileCard:
    place = text.link(f"/scene?scene={tile.scene_id}&tile={tile.id}", tile.scene_name)
    return text.TileCard(
        f"/tiles/{tile.id}.png?width={THUMBNAIL_PIXELS}",
        f"Tile {tile.id}",
        [tile.split, *(["looked at"] if reviewed else [])],
        [place, f"at {tile.window.x}, {tile.window.y}"],
        f"/review?tile={tile.id}",
    )


def _scenes(context: PageContext, number: int, part: str) -> tuple[int, str]:
    """The page ``number`` of the scenes, and the number that is shown."""
    with context.workspace.session(write=False) as session:
        total = scene_page(session, limit=0, scene=part).total
        last = max(1, -(-total // SCENES_A_PAGE))
        number = min(max(number, 1), last)
        page = scene_page(session, limit=SCENES_A_PAGE, offset=(number - 1) * SCENES_A_PAGE, scene=part)
    if not total:
        return 1, text.note("No scene of this name." if part else "No scene yet.")
    columns = ["Scene", "Pixels", "Tiles", "Boxes", "Looked at"]
    return number, text.note(f"Page {number} of {last}, {total} scenes") + text.table(columns, [_scene(each) for each in page.scenes])


def _scene(scene: SceneSummary) -> tuple[Any, ...]:
    share = f"{scene.reviewed / scene.tiles:.0%}" if scene.tiles else "–"
    return text.link(f"/scene?scene={scene.id}", scene.name), f"{scene.width} × {scene.height}", scene.tiles, scene.boxes, share
