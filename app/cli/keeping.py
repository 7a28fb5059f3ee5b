"""Commands that keep a workspace: backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.cli.progress import job
from app.cli.stage import run_stage

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(backup)
    app.command()(restore)


def backup(
    target: Annotated[Path, typer.Argument(help="Where it goes: a file NAME.tar, or a folder; outside the workspace, nothing there yet.")],
    *,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Also the signing key, the tokens of annotation servers and the hashes of passwords.")
    ] = False,
    with_uploads: Annotated[
        bool, typer.Option("--with-uploads", help="Also what came in through the page and is not taken in yet.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the whole workspace to one file or folder, while others go on working in it."""
    from engine.stages.backup import BackupConfig, back_up

    config = BackupConfig(secrets=with_secrets, uploads=with_uploads)
    run_stage(back_up, target, config, workspace=workspace, as_json=as_json)


def restore(
    backup: Annotated[Path, typer.Argument(help="What `tilehawk backup` wrote.")],
    folder: Annotated[Path, typer.Argument(help="The workspace that it becomes: nothing is there yet, or an empty folder.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace of a backup, each file held against its hash; its catalog goes where that of a new workspace would."""
    from engine.stages.restore import restore as make_anew

    with job() as progress:
        report = make_anew(backup, folder, progress=progress)
    emit(report, as_json=as_json)
