"""Commands that make models and list them: models."""

from __future__ import annotations

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.settings import find_workspace

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(models)


def models(*, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the trained models with their metrics."""
    from engine.catalog.summary import summarize
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        emit({"models": summarize(opened).models}, as_json=as_json)
