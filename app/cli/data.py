"""Commands that fill a workspace and say what is in it: init, ingest, status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.output import emit
from app.cli.stage import run_stage
from app.settings import find_workspace

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(init)
    app.command()(ingest)
    app.command()(status)


def init(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Where; else --workspace, else the current folder.")] = None,
    *,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: the folder that holds scenes, tiles, labels, models and rounds."""
    from engine.catalog.workspace import Workspace

    root = folder or workspace or Path(os.environ.get("TILEHAWK_WORKSPACE") or Path.cwd())
    with Workspace.create(root) as made:
        emit({"workspace": made.root, "next": "tilehawk ingest ARCHIVE_OR_FOLDER"}, as_json=as_json)


def ingest(
    source: Annotated[Path, typer.Argument(help="A zip, tar or tar.gz archive, a folder, or one image (JPEG, PNG, GeoTIFF).")],
    *,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take imagery in: scenes, their tiles and splits. Bad files are set aside by name; the same command again goes on."""
    from engine.stages.ingest import IngestConfig

    chosen = configured(IngestConfig, config, settings)
    run_stage("ingest", chosen, paths={"source": source}, workspace=workspace, as_json=as_json, no_queue=no_queue)


def status(*, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say what is in the workspace: scenes, tiles, labels, models, rounds, what was set aside, who is at work."""
    from engine.catalog.summary import summarize
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        emit(summarize(opened), as_json=as_json)
