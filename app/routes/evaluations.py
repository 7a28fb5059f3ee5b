"""Pictures of evaluations: a model's id, a split and a name out of a list, of which no path is made."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Request, Response

from app.routes.tiles import unless_known
from app.tile_pictures import LARGEST_ID, etag
from engine.catalog.evaluations import stored_pictures
from engine.catalog.schema import ModelRow
from engine.catalog.workspace import Workspace

__all__ = ["router"]

CACHE = "private, no-cache"


def router(workspace: Workspace) -> APIRouter:
    """``GET /evaluations/{model}/{split}/{name}.png``: a picture of the last evaluation of the model on that ground."""
    routes = APIRouter()

    @routes.get("/evaluations/{model_id}/{split}/{name}.png")
    def picture(
        model_id: Annotated[int, Path(ge=1, le=LARGEST_ID)], split: Literal["test", "dev", "train"], name: str, request: Request
    ) -> Response:
        with workspace.session(write=False) as session:
            model = session.get(ModelRow, model_id)
        file = None if model is None else stored_pictures(workspace, model, split).get(name)
        try:
            content = b"" if file is None else file.read_bytes()
        except FileNotFoundError:
            content = b""
        if not content:
            raise HTTPException(404, "no such picture of an evaluation")
        tag = etag("evaluation", content)
        headers = {"Cache-Control": CACHE, "ETag": tag}
        return unless_known(request, tag) or Response(content, media_type="image/png", headers=headers)

    return routes
