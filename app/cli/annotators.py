"""Commands about annotation servers: connect label-studio, connect backend, push, pull."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.output import emit
from app.cli.stage import run_stage
from app.settings import find_workspace
from engine.errors import UsageError

__all__ = ["add_to"]

LONGEST_TOKEN = 8192


def add_to(app: typer.Typer, connect: typer.Typer) -> None:
    """Register the commands of this group."""
    connect.command("label-studio")(connect_label_studio)
    connect.command("backend")(connect_backend)
    app.command()(push)
    app.command()(pull)


def connect_label_studio(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address at which Label Studio opens in a browser.", show_default=False)],
    *,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input: never on the command line.")
    ] = False,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The address at which the annotators' browsers reach this app; else $TILEHAWK_PUBLIC_URL, else http://127.0.0.1:7860.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        bool, typer.Option("--backend", help="Also enter this app as the machine learning backend of the newest project there.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Connect the workspace to a Label Studio; the token is tried before it is stored, readable by you alone."""
    from app.connections import connect_label_studio as connect
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        report = connect(opened, url, _token(from_stdin=token_stdin), public_url=public_url)
        if backend:
            from app.backend import register

            register(opened)
    emit(report, as_json=as_json)


def connect_backend(*, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Enter this app, which must be running, as the machine learning backend of the newest project in the connected Label Studio."""
    from app.backend import register
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        emit(register(opened), as_json=as_json)


def _token(*, from_stdin: bool) -> str:
    """The token, from standard input or typed unseen.

    Raises:
        UsageError: nobody sits at a terminal, and standard input was not named.
    """
    if from_stdin:
        token = sys.stdin.read(LONGEST_TOKEN).strip()
    elif sys.stdin.isatty():
        token = str(typer.prompt("Token", hide_input=True, err=True)).strip()
    else:
        raise UsageError(
            "no token", expected="it on standard input", remedy="For example: tilehawk connect label-studio URL --token-stdin < token.txt"
        )
    return token


def push(
    *,
    number: Annotated[int | None, typer.Option("--round", help="The round; else the newest.", show_default=False)] = None,
    title: Annotated[str | None, typer.Option(help="Title of the project when it is made.", show_default=False)] = None,
    annotators: Annotated[int | None, typer.Option(help="People who are to annotate each tile.", show_default="1")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and change nothing here or there.")] = False,
    no_queue: NoQueueOption = False,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the round's tiles to the annotators, with what the detector found on them."""
    from engine.stages.push import PushConfig

    chosen = configured(PushConfig, config, settings, round=number, title=title, annotators=annotators)
    if dry_run:
        from app.workflows.dry_run import what_would_be_pushed

        run_stage(what_would_be_pushed, chosen, workspace=workspace, as_json=as_json)
    else:
        run_stage("push", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def pull(
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Look at every task again: afterwards the catalog says what the server says.")
    ] = False,
    several: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="Of several people's answers: latest, majority or all boxes.", show_default="as before"),
    ] = None,
    no_queue: NoQueueOption = False,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in what the annotators answered since the last time."""
    from engine.stages.pull import PullConfig

    chosen = configured(PullConfig, config, settings, full=full or None, several=several)
    run_stage("pull", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)
