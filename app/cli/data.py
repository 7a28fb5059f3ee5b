"""Commands that fill a workspace and say what is in it: init, status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.settings import find_workspace

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(init)
    app.command()(status)


def init(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Where; else --workspace, else the current folder.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: the folder that holds scenes, tiles, labels, models and rounds."""
    from engine.catalog.workspace import Workspace

    root = folder or workspace or Path(os.environ.get("TILEHAWK_WORKSPACE") or Path.cwd())
    with Workspace.create(root) as made:
        emit({"workspace": made.root, "next": "tilehawk ingest ARCHIVE_OR_FOLDER"}, as_json=as_json)


def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say what is in the workspace: scenes, tiles, labels, models, rounds, what was set aside, who is at work."""
    from engine.catalog.summary import summarize
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        emit(summarize(opened), as_json=as_json)
