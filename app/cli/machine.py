"""Commands about this machine: doctor, app."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.settings import find_workspace

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command("app")(serve)
    app.command()(doctor)


def serve(
    *,
    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen; anywhere but this machine needs an account.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 7860,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Keep a worker running that does the jobs.")] = True,
    public_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The address under which others reach the app; else $TILEHAWK_PUBLIC_URL.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Show the workspace in the browser, and work off its jobs. Ctrl-C ends it."""
    from app.server import serve as run_server
    from app.settings import Settings
    from engine.catalog.workspace import Workspace

    settings = Settings.from_environment(public_url=public_url)
    with Workspace.open(find_workspace(workspace)) as opened:
        run_server(opened, host=host, port=port, worker=worker, settings=settings)


def doctor(*, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Look over the installation and the workspace; each check says what to do. Exit code 1 when one of them fails."""
    from app.doctor import examine

    checks = examine(find_workspace(workspace))
    emit({"checks": checks}, as_json=as_json)
    if any(check.result == "fail" for check in checks):
        raise typer.Exit(1)
