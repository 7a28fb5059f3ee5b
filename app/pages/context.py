"""What every page works on, and how it answers: the workspace, the jobs, and errors that say what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.pages import text
from engine.catalog.workspace import Workspace
from engine.errors import TilehawkError, WorkspaceBusy

if TYPE_CHECKING:
    from app.jobs import Jobs
    from app.settings import Settings

__all__ = ["PageContext", "visitor", "writable"]


def writable() -> str | None:
    """Nothing speaks against changing the workspace."""
    return None


def visitor(request: gr.Request | None) -> str:
    """Who is at the page: the name of the account, or ``local`` for somebody on this machine."""
    return (request.username if request is not None else None) or "local"


@dataclass(frozen=True)
class PageContext:
    """The workspace behind the pages, the client of its job store, and what this server was told.

    ``read_only`` says why nothing may be changed here at the moment, for example that another app has the workspace; None where it may.
    ``local``: visitors sit at this very machine, and may name any path on it.
    """

    workspace: Workspace
    jobs: Jobs
    settings: Settings
    read_only: Callable[[], str | None] = field(default=writable)
    local: bool = True

    def answer(self, action: Callable[..., Any], *, outputs: int, changes: bool = False) -> Callable[..., Any]:
        """``action`` as an event listener whose last output is the page's line of news.

        An error of ours becomes that line, and every other output stays as it is: nothing that was typed or drawn is lost.

        Args:
            action: returns ``outputs`` values (one alone is not in a tuple).
            outputs: how many components it writes to, the line of news included.
            changes: it changes the workspace, and is refused where that is not allowed.
        """

        @functools.wraps(action)
        def listener(*values: Any, **named: Any) -> Any:
            try:
                if changes and (why := self.read_only()):
                    raise WorkspaceBusy(why, expected="the app that holds the workspace", remedy="Use that one, or close it")
                return action(*values, **named)
            except TilehawkError as error:
                news = text.problem(error)
            return news if outputs == 1 else (*(gr.skip() for _ in range(outputs - 1)), news)

        return listener
