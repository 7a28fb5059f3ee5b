"""Pictures of look-alikes, by id: the object with some of its surroundings, its box drawn."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from PIL import Image, ImageDraw

from app.routes.tiles import CACHE, Id, unless_known
from app.tile_pictures import TilePictures, etag
from engine.catalog.schema import SearchHit
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

__all__ = ["router"]

SURROUNDINGS = 3.0
"""Side of the picture as a multiple of the object's longer side."""
SMALLEST_SIDE = 48


def router(workspace: Workspace, pictures: TilePictures) -> APIRouter:
    """``GET /hits/{id}.png?width=N``: a square of N pixels around the look-alike; with ``tile=ID`` only while it lies on that tile."""
    routes = APIRouter()

    @routes.get("/hits/{hit_id}.png")
    def hit(
        hit_id: Id, request: Request, width: Annotated[int, Query(ge=16, le=1024)] = 140, tile: Annotated[int | None, Query()] = None
    ) -> Response:
        with workspace.session(write=False) as session:
            row = session.get(SearchHit, hit_id)
        found = pictures.tile(row.tile_id) if row else None
        if row is None or found is None or tile not in (None, row.tile_id):
            raise HTTPException(404, "no such look-alike")
        box = (row.x1_tile, row.y1_tile, row.x2_tile, row.y2_tile)
        tag = etag("hit", found.content_hash, found.window, box, width)
        if known := unless_known(request, tag):
            return known
        try:
            pixels = Image.fromarray(pictures.pixels(found))
        except BadInput as unreadable:
            raise HTTPException(404, "the scene of this look-alike cannot be read any more") from unreadable
        picture = io.BytesIO()
        _around(pixels, box, width).save(picture, "PNG", compress_level=1)
        return Response(picture.getvalue(), media_type="image/png", headers={"Cache-Control": CACHE, "ETag": tag})

    return routes


def _around(tile: Image.Image, box: tuple[float, float, float, float], width: int) -> Image.Image:
    x1, y1, x2, y2 = box
    side = max(SMALLEST_SIDE, SURROUNDINGS * max(x2 - x1, y2 - y1))
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    picture = _cut(tile, left, top, side, width)
    scale = width / side
    ImageDraw.Draw(picture).rectangle(
        [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale], outline=(255, 225, 25), width=2
    )
    return picture


def _cut(tile: Image.Image, left: float, top: float, side: float, width: int) -> Image.Image:
    """A square of the tile, black where it reaches over the tile's edge."""
    scale = side / width
    return tile.transform((width, width), Image.Transform.AFFINE, (scale, 0, left, 0, scale, top), Image.Resampling.BILINEAR)
