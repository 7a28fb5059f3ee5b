"""What every page works on, and how it answers: the workspace, the jobs, and errors that say what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import LocalContext

from app.pages import text
from app.roles import OPERATOR, ROLES, Role, may, refusal
from engine.catalog.workspace import Workspace
from engine.errors import NotAllowed, TilehawkError, WorkspaceBusy

if TYPE_CHECKING:
    from app.jobs import Jobs
    from app.settings import Settings

__all__ = ["PageContext", "operator", "visitor", "writable"]


def writable() -> str | None:
    """Nothing speaks against changing the workspace."""
    return None


def visitor(request: gr.Request | None) -> str:
    """Who is at the page: the name of the account, or ``local`` for somebody on this machine."""
    return (request.username if request is not None else None) or "local"


def operator(_name: str) -> str:
    """Everybody may do everything: they are at this machine."""
    return OPERATOR


@dataclass(frozen=True)
class PageContext:
    """The workspace behind the pages, the client of its job store, and what this server was told.

    ``read_only`` says why nothing may be changed here at the moment, for example that another app has the workspace; None where it may.
    ``local``: visitors sit at this very machine, and may name any path on it. ``role_of`` says what a visitor may do.
    """

    workspace: Workspace
    jobs: Jobs
    settings: Settings
    read_only: Callable[[], str | None] = field(default=writable)
    local: bool = True
    role_of: Callable[[str], str | None] = field(default=operator)

    def require(self, needs: Role, what: str) -> None:
        """Refuse the visitor whose event is being answered, where ``needs`` is more than their role.

        Args:
            needs: the least role that may.
            what: what they are about to do, for the message.

        Raises:
            NotAllowed: they may not; who may stands there.
        """
        name, role = self._visitor()
        if not may(role, needs):
            found, remedy = refusal(what, needs, name, role)
            raise NotAllowed(found, remedy=remedy)

    def allows(self, needs: Role) -> bool:
        """Whether the visitor whose event is being answered may do what ``needs`` that role."""
        return may(self._visitor()[1], needs)

    def _visitor(self) -> tuple[str, str | None]:
        name = visitor(LocalContext.request.get(None))
        return name, self.role_of(name)

    def answer(self, action: Callable[..., Any], *, outputs: int, changes: bool = False, needs: Role | None = None) -> Callable[..., Any]:
        """``action`` as an event listener whose last output is the page's line of news.

        An error of ours becomes that line, and every other output stays as it is: nothing that was typed or drawn is lost.

        Args:
            action: returns ``outputs`` values (one alone is not in a tuple).
            outputs: how many components it writes to, the line of news included.
            changes: it changes the workspace, and is refused where that is not allowed.
            needs: the least role that may do it; None for whoever may open the page, and for engineers alone where it changes something.
        """
        least: Role = needs or (OPERATOR if changes else ROLES[0])

        @functools.wraps(action)
        def listener(*values: Any, **named: Any) -> Any:
            try:
                self.require(least, "This")
                if changes and (why := self.read_only()):
                    raise WorkspaceBusy(why, expected="the app that holds the workspace", remedy="Use that one, or close it")
                return action(*values, **named)
            except TilehawkError as error:
                news = text.problem(error)
            return news if outputs == 1 else (*(gr.skip() for _ in range(outputs - 1)), news)

        listener.__dict__.update(changes=changes, needs=least)
        return listener
