"""Commands about who may log in: users add, users list, users remove."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.settings import find_workspace
from engine.errors import BadInput

__all__ = ["add_to"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account: letters, digits and . _ @ -")]


def add_to(users: typer.Typer) -> None:
    """Register the commands of this group."""
    users.command("add")(add)
    users.command("list")(show)
    users.command("remove")(remove)


def add(name: NameArgument, *, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Make an account, or give it a new password: asked for twice, or read from standard input. Open sessions of it end."""
    from app.accounts import Accounts
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        fresh = Accounts(opened).add(name, _password())
    emit({"user": name, "new": fresh}, as_json=as_json)


def show(*, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the accounts."""
    from app.accounts import Accounts
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        emit({"users": Accounts(opened).names()}, as_json=as_json)


def remove(name: NameArgument, *, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Remove an account; its open sessions end."""
    from app.accounts import Accounts
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        Accounts(opened).remove(name)
    emit({"removed": name}, as_json=as_json)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise BadInput("two different passwords", expected="the same twice", remedy="Type it again")
    return password
