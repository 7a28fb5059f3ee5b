"""Pictures that stages drew of the workspace as a whole: a name out of a list, of which no path is made."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response

from app.routes.stored import content_of, png_answer
from engine.catalog.simulations import StoredSimulation, stored_simulations
from engine.catalog.workspace import Workspace

__all__ = ["router"]


def router(workspace: Workspace) -> APIRouter:
    """``GET /reports/{name}.png``, and ``GET /simulations/{name}.png`` and ``/simulations/{name}/seeds.png``: curves and box plots."""
    routes = APIRouter()

    def simulation_named(name: str) -> StoredSimulation | None:
        return next((each for each in stored_simulations(workspace) if each.name == name), None)

    @routes.get("/reports/{name}.png")
    def report(name: Literal["forecast", "costs", "audit"], request: Request) -> Response:
        return png_answer(request, "a report", content_of(workspace.reports / f"{name}.png"))

    @routes.get("/simulations/{name}.png")
    def simulation(name: str, request: Request) -> Response:
        found = simulation_named(name)
        return png_answer(request, "a simulation", content_of(None if found is None else found.picture))

    @routes.get("/simulations/{name}/seeds.png")
    def simulation_seeds(name: str, request: Request) -> Response:
        found = simulation_named(name)
        return png_answer(request, "a simulation's seeds", content_of(None if found is None else found.seeds_picture))

    return routes
