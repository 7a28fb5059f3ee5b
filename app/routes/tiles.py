"""Pictures of tiles and scenes, by id: a name from outside never becomes a path."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from app.tile_pictures import LARGEST_ID, LARGEST_WIDTH, SMALLEST_WIDTH, Picture, TilePictures, etag
from engine.errors import BadInput

__all__ = ["router", "unless_known"]

CACHE = "private, no-cache"
"""Kept by the browser, and asked about by its entity tag each time: another workspace at the same address has other tiles."""

Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Width = Annotated[int, Query(ge=SMALLEST_WIDTH, le=LARGEST_WIDTH)]


def router(pictures: TilePictures) -> APIRouter:
    """``GET /tiles/{id}.png`` and ``GET /scenes/{id}.png``."""
    routes = APIRouter()

    @routes.get("/tiles/{tile_id}.png")
    def tile(tile_id: Id, request: Request, width: Width | None = None) -> Response:
        """The tile's pixels as PNG; with ``width`` a JPEG at most that wide, never larger than the tile."""
        found = pictures.tile(tile_id)
        if found is None:
            raise HTTPException(404, "no such tile")
        tag = etag("tile", found.content_hash, found.window, width)
        try:
            return unless_known(request, tag) or _picture(pictures.whole(found) if width is None else pictures.thumbnail(found, width), tag)
        except BadInput as unreadable:
            raise HTTPException(404, "the scene of this tile cannot be read any more") from unreadable

    @routes.get("/scenes/{scene_id}.png")
    def scene(scene_id: Id, request: Request, width: Width = 1024) -> Response:
        """The whole scene as a JPEG, at most ``width`` wide and high, never larger than the scene."""
        found = pictures.scene(scene_id)
        if found is None:
            raise HTTPException(404, "no such scene")
        tag = etag("scene", found.content_hash, width)
        try:
            return unless_known(request, tag) or _picture(pictures.overview(found, width), tag)
        except BadInput as unreadable:
            raise HTTPException(404, "the scene cannot be read as a whole") from unreadable

    return routes


def unless_known(request: Request, tag: str) -> Response | None:
    """304 where the browser has the picture with this entity tag already."""
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    return Response(status_code=304, headers=_headers(tag)) if tag in known else None


def _picture(picture: Picture, tag: str) -> Response:
    return Response(picture.content, media_type=picture.media_type, headers=_headers(tag))


def _headers(tag: str) -> dict[str, str]:
    return {"Cache-Control": CACHE, "ETag": tag}
