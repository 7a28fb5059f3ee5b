"""Commands about who may log in, and do what: users add, users list, users role, users remove."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.roles import NEW_ACCOUNTS, ROLES, Role
from app.settings import find_workspace
from engine.errors import BadInput

__all__ = ["add_to"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account: letters, digits and . _ @ -")]


def add_to(users: typer.Typer) -> None:
    """Register the commands of this group."""
    users.command("add")(add)
    users.command("list")(show)
    users.command("role")(change_role)
    users.command("remove")(remove)


def add(
    name: NameArgument,
    *,
    role: Annotated[
        Role | None,
        typer.Option(help=f"What it may do; each may do what those before it may. A new account is {NEW_ACCOUNTS}.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account, or give it a new password: asked for twice, or read from standard input. Open sessions of it end."""
    from app.accounts import Accounts
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        accounts = Accounts(opened)
        fresh = accounts.add(name, _password(), role)
        emit({"user": name, "role": accounts.roles()[name], "new": fresh}, as_json=as_json)


def show(*, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the accounts with their roles."""
    from app.accounts import Accounts
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        emit({"users": [{"name": name, "role": role} for name, role in Accounts(opened).roles().items()]}, as_json=as_json)


def change_role(
    name: NameArgument,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help=f"One of {', '.join(ROLES)}; each may do what those before it may")],
    *,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an account do more or less; it counts within two seconds and logs nobody out."""
    from app.accounts import Accounts
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        Accounts(opened).set_role(name, role)
    emit({"user": name, "role": role}, as_json=as_json)


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
