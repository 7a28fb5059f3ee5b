"""Pictures that stages drew of the workspace as a whole: a name out of a list, of which no path is made."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response

from app.routes.stored import content_of, png_answer
from engine.catalog.simulations import stored_simulations
from engine.catalog.workspace import Workspace

__all__ = ["router"]


def router(workspace: Workspace) -> APIRouter:
    """``GET /reports/{name}.png`` and ``GET /simulations/{name}.png``: the curves of a simulation."""
    routes = APIRouter()

    @routes.get("/reports/{name}.png")
    def report(name: Literal["forecast", "costs", "audit"], request: Request) -> Response:
        return png_answer(request, "a report", content_of(workspace.reports / f"{name}.png"))

    @routes.get("/simulations/{name}.png")
    def simulation(name: str, request: Request) -> Response:
        found = next((each for each in stored_simulations(workspace) if each.name == name), None)
        return png_answer(request, "a simulation", content_of(None if found is None else found.picture))

    return routes
