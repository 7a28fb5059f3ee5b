"""Files to take away."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from app.downloads import find
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo

__all__ = ["router"]


def router(workspace: Workspace) -> APIRouter:
    """``GET /downloads/{kind}/{name}``: exports, layers and labels, as attachments, by names that the catalog knows."""
    routes = APIRouter()

    @routes.get("/downloads/{kind}/{name}")
    def download(kind: Annotated[str, Path(max_length=32)], name: Annotated[str, Path(max_length=256)]) -> Response:
        kept = contextlib.ExitStack()
        try:
            found = find(workspace, kind, name)
            file = kept.enter_context(found.file())
        except (BadInput, NothingToDo) as missing:
            raise HTTPException(404, str(missing)) from missing
        return FileResponse(
            file,
            filename=found.filename,
            media_type="application/octet-stream",
            content_disposition_type="attachment",
            headers={"Cache-Control": "no-store"},
            background=BackgroundTask(kept.close),
        )

    return routes
