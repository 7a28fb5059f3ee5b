"""A scene to wander over: its page, its squares by level, and what lies in the part that is looked at."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from app.deep_zoom import DeepZoom, levels_of
from app.pages.scene import SceneFacts, scene_page
from app.routes.tiles import unless_known
from app.tile_pictures import LARGEST_ID, etag
from engine.boxes import Boxes
from engine.catalog.annotations import label_set
from engine.catalog.scene_view import ViewedTile, believed_boxes, scene_view
from engine.catalog.schema import LabelSetRow, Scene, Tile
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.records import Window

__all__ = ["MOST_BELIEVED", "MOST_SHOWN", "router"]

MOST_SHOWN = 5000
"""Boxes, and tiles, in one answer."""
MOST_BELIEVED = 1000
"""Tiles of which the detector's boxes are merged in one answer."""
CACHE = "private, no-cache"
SECONDS_TO_COME_AGAIN = 3

Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Index = Annotated[int, Path(ge=0, le=1 << 30)]
Side = Annotated[float, Query(ge=-1e9, le=1e9, allow_inf_nan=False)]


def router(workspace: Workspace, zoom: DeepZoom) -> APIRouter:
    """``GET /scene?scene=ID``, ``/scenes/{id}/{level}/{column}/{row}.png`` and ``/scenes/{id}/boxes.json``."""
    routes = APIRouter()

    @routes.get("/scene")
    def page(scene: Annotated[int, Query(ge=1, le=LARGEST_ID)], tile: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None) -> Response:
        """The page; with ``tile`` it opens there."""
        found = _known(zoom, scene)
        with workspace.session(write=False) as session:
            names = label_set(session).names if session.get(LabelSetRow, 1) is not None else ()
            row = session.get(Tile, tile) if tile is not None else None
        focus = Window(row.x, row.y, row.width, row.height) if row is not None and row.scene_id == scene else None
        facts = SceneFacts(found.id, found.name, found.width, found.height, levels_of(found.width, found.height), tuple(names), focus)
        return HTMLResponse(scene_page(facts), headers={"Cache-Control": "no-store"})

    @routes.get("/scenes/{scene_id}/{level}/{column}/{row}.png")
    def square(scene_id: Id, level: Annotated[int, Path(ge=0, le=32)], column: Index, row: Index, request: Request) -> Response:
        """256 × 256 pixels of a level; 503 while the smaller copy that it needs is being made."""
        scene = _known(zoom, scene_id)
        tag = etag("square", scene.content_hash, level, column, row)
        if known := unless_known(request, tag):
            return known
        try:
            picture = zoom.square(scene, level, column, row)
        except BadInput as missing:
            raise HTTPException(404, "there is no such square, or the scene cannot be read any more") from missing
        if picture is None:
            raise HTTPException(503, "a smaller copy of the scene is being made", headers={"Retry-After": str(SECONDS_TO_COME_AGAIN)})
        return Response(picture.content, media_type=picture.media_type, headers={"Cache-Control": CACHE, "ETag": tag})

    @routes.get("/scenes/{scene_id}/boxes.json")
    def boxes(
        scene_id: Id,
        x1: Side = 0.0,
        y1: Side = 0.0,
        x2: Side = 1e9,
        y2: Side = 1e9,
        score: Annotated[float, Query(ge=0, le=1)] = 0.3,
    ) -> Response:
        """What lies in the part of the scene between two corners: accepted boxes, tiles, and what the newest detector says."""
        scene = _known(zoom, scene_id)
        with workspace.session(write=False) as session:
            view = scene_view(session, scene_id, (x1, y1, x2, y2), limit=MOST_SHOWN)
        merged = 0 < len(view.tiles) <= MOST_BELIEVED
        believed = believed_boxes(workspace, view.tiles, scene.width, scene.height, score) if merged else Boxes.empty(scored=True)
        return JSONResponse(
            {
                "boxes": [[*(round(side, 2) for side in box), label] for *box, label in view.boxes],
                "boxes_total": view.boxes_total,
                "tiles": [_shown(tile) for tile in view.tiles],
                "tiles_total": view.tiles_total,
                "believed": _believed(believed) if merged else None,
                "overview": zoom.progress(scene),
            },
            headers={"Cache-Control": "no-store"},
        )

    return routes


def _known(zoom: DeepZoom, scene_id: int) -> Scene:
    scene = zoom.scene(scene_id)
    if scene is None:
        raise HTTPException(404, "no such scene")
    return scene


def _shown(tile: ViewedTile) -> dict[str, Any]:
    return {"id": tile.id, "at": tile.window.xyxy, "split": tile.split, "state": tile.state}


def _believed(boxes: Boxes) -> list[list[float]]:
    assert boxes.scores is not None
    rows = zip(boxes.xyxy.round(2).tolist(), boxes.labels.tolist(), boxes.scores.round(3).tolist(), strict=True)
    return [[*box, label, score] for box, label, score in rows][:MOST_SHOWN]
