"""Pictures of evaluations: a model's id, a split and a name out of a list, of which no path is made."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response

from app.routes.stored import content_of, png_answer
from app.tile_pictures import LARGEST_ID
from engine.catalog.evaluations import stored_pictures
from engine.catalog.schema import ModelRow
from engine.catalog.workspace import Workspace

__all__ = ["router"]


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
        return png_answer(request, "an evaluation", content_of(file))

    return routes
