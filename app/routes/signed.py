"""Pictures of tiles for annotators elsewhere: the address is its own proof, for one tile and for a time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Response

from app.signing import Signer
from app.tile_pictures import LARGEST_ID, TilePictures
from engine.errors import BadInput

__all__ = ["router"]

HEADERS = {"Cache-Control": "private, max-age=3600", "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
"""The annotation server's pages show these pictures and read their pixels; no cookie is involved."""


def router(pictures: TilePictures, signer: Signer) -> APIRouter:
    """``GET /signed/tiles/{id}.png?expires=…&signature=…``, as :meth:`app.signing.Signer.tile_url` makes it."""
    routes = APIRouter()

    @routes.get("/signed/tiles/{tile_id}.png")
    def tile(
        tile_id: Annotated[int, Path(ge=1, le=LARGEST_ID)],
        expires: Annotated[str, Query(max_length=16)] = "",
        signature: Annotated[str, Query(max_length=128)] = "",
    ) -> Response:
        if not signer.verify(tile_id, expires, signature):
            raise HTTPException(403, "this address does not work (any more): push the tiles again")
        found = pictures.tile(tile_id)
        if found is None:
            raise HTTPException(404, "no such tile")
        try:
            picture = pictures.whole(found)
        except BadInput as unreadable:
            raise HTTPException(404, "the scene of this tile cannot be read any more") from unreadable
        return Response(picture.content, media_type=picture.media_type, headers=HEADERS)

    return routes
