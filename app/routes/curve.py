"""The learning curve of the workspace's rounds as a picture."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from app.pictures import curve_png, curve_points
from engine.catalog.summary import summarize
from engine.catalog.workspace import Workspace

__all__ = ["router"]


def router(workspace: Workspace) -> APIRouter:
    """``GET /curve.png``: AP and AP50 over annotator minutes, 404 while no round has been evaluated."""
    routes = APIRouter()

    @routes.get("/curve.png")
    def curve() -> Response:
        points = curve_points(summarize(workspace).rounds)
        if not points:
            raise HTTPException(404, "no round has been evaluated yet")
        return Response(curve_png(points), media_type="image/png", headers={"Cache-Control": "no-store"})

    return routes
