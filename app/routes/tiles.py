"""Pictures of tiles, by id: a name from outside never becomes a path."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response
from PIL import Image

from engine.catalog.schema import Scene
from engine.catalog.tiles import scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.imagery.raster import Raster

__all__ = ["router"]

LARGEST_ID = 2**63 - 1
CACHE = {"Cache-Control": "private, max-age=3600"}


def router(workspace: Workspace) -> APIRouter:
    """``GET /tiles/{id}.png``: the tile's pixels, read from its scene's raster."""
    routes = APIRouter()

    @routes.get("/tiles/{tile_id}.png")
    def tile(tile_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> Response:
        with workspace.session(write=False) as session:
            found = tiles(session, ids=[tile_id])
            scene = session.get(Scene, found[0].scene_id) if found else None
        if scene is None:
            raise HTTPException(404, "no such tile")
        try:
            with Raster(scene_file(workspace, scene)) as raster:
                pixels = raster.read(found[0].window)
        except BadInput as unreadable:
            raise HTTPException(404, "the scene of this tile cannot be read any more") from unreadable
        picture = io.BytesIO()
        Image.fromarray(pixels).save(picture, "PNG", compress_level=1)
        return Response(picture.getvalue(), media_type="image/png", headers=CACHE)

    return routes
