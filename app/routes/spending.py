"""Maps of scenes with the seconds that annotators spent on their tiles, and those that rounds plan."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from numpy.typing import NDArray
from PIL import Image

from app.routes.stored import png_answer
from app.tile_pictures import LARGEST_ID, TilePictures
from engine.catalog.schema import Scene
from engine.catalog.spending import TileSpending, tile_spending
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.evaluation.spending_map import TilesOnMap, draw_spending, full_seconds

__all__ = ["router"]

MAP_PIXELS = 480
PLAIN = 200
"""The grey of a scene whose pixels cannot be had."""


def router(workspace: Workspace, pictures: TilePictures) -> APIRouter:
    """``GET /spending/{scene}.png``: its tiles coloured by seconds, those of ``round`` clear; all of them without it."""
    routes = APIRouter()

    @routes.get("/spending/{scene_id}.png")
    def spending(
        scene_id: Annotated[int, Path(ge=1, le=LARGEST_ID)],
        request: Request,
        number: Annotated[int | None, Query(alias="round", ge=1, le=LARGEST_ID)] = None,
    ) -> Response:
        scene = pictures.scene(scene_id)
        if scene is None:
            raise HTTPException(404, "no such scene")
        with workspace.session(write=False) as session:
            tiles = tile_spending(session)
        ground = _ground(pictures, scene)
        here = [tile for tile in tiles if tile.scene_id == scene_id]
        full = full_seconds([tile.seconds for tile in tiles])
        drawn = draw_spending(ground, _on_map(here, ground.shape[1] / scene.width, number), full_seconds=full)
        return png_answer(request, "a scene's seconds", _png(drawn))

    return routes


def _ground(pictures: TilePictures, scene: Scene) -> NDArray[np.uint8]:
    """RGB of the scene, at most ``MAP_PIXELS`` wide and high; plain where it cannot be read, or is too large to be read as a whole."""
    try:
        with Image.open(io.BytesIO(pictures.overview(scene, MAP_PIXELS).content)) as picture:
            return np.asarray(picture.convert("RGB"))
    except BadInput:
        shrink = min(1.0, MAP_PIXELS / max(scene.width, scene.height))
        return np.full((max(1, round(scene.height * shrink)), max(1, round(scene.width * shrink)), 3), PLAIN, dtype=np.uint8)


def _on_map(tiles: Sequence[TileSpending], shrink: float, number: int | None) -> TilesOnMap:
    return TilesOnMap(
        np.asarray([tile.window.xyxy for tile in tiles], dtype=np.float64).reshape(-1, 4) * shrink,
        np.asarray([tile.seconds for tile in tiles], dtype=np.float64),
        np.asarray([tile.spent for tile in tiles], dtype=bool),
        np.asarray([number is None or tile.round == number for tile in tiles], dtype=bool),
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
