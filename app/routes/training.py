"""Pictures of training runs: a run and a name out of lists, of which no path is made."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fastapi import APIRouter, Request, Response

from app.routes.stored import content_of, png_answer
from engine.catalog.training_logs import LoggedRun, logged_runs
from engine.catalog.workspace import Workspace
from engine.evaluation.drawing import training_curves

__all__ = ["CURVES", "router"]

CURVES = "curves"
CURVES_SHOWN = 9


def router(workspace: Workspace) -> APIRouter:
    """``GET /training/{run}/{name}.png``: a picture that a run wrote, or as ``curves`` its numbers so far, ``beside`` another run's."""
    routes = APIRouter()

    @routes.get("/training/{run}/{name}.png")
    def picture(run: str, name: str, request: Request, beside: str = "") -> Response:
        known = {each.name: each for each in logged_runs(workspace)}
        found, other = known.get(run), known.get(beside)
        content = b"" if found is None else _curves(found, other) if name == CURVES else content_of(found.pictures.get(name))
        return png_answer(request, "a training run", content)

    return routes


def _curves(run: LoggedRun, other: LoggedRun | None) -> bytes:
    runs = {each.name: {name: (curve.images_seen, curve.values) for name, curve in each.curves().items()} for each in (run, other) if each}
    runs[run.name] = dict(list(runs[run.name].items())[:CURVES_SHOWN])
    if not runs[run.name]:
        return b""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        training_curves(runs, path)
        return path.read_bytes()
