"""Which app is in charge of a workspace: the one that holds its lock. Any other reads, and takes over when that one ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from engine.catalog.workspace import Workspace
from engine.errors import WorkspaceBusy

__all__ = ["APP", "Ownership"]

APP = "app"
"""Name of the lock."""
POLL_SECONDS = 0.5


class Ownership:
    """The app's lock on a workspace, held or waited for in the background; a context manager.

    Args:
        workspace: whose.
        address: where this app is reached, told to whoever finds the lock taken.
        taken: called once, in the thread that enters or in one of its own, as soon as the lock is held.
        poll_seconds: how often the lock is tried again.
    """

    def __init__(
        self, workspace: Workspace, address: str, *, taken: Callable[[], None] = lambda: None, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._workspace, self._address, self._taken, self._poll = workspace, address, taken, poll_seconds
        self._lock = ExitStack()
        self._reason: str | None = None
        self._ended = threading.Event()
        self._waiting: threading.Thread | None = None

    def read_only(self) -> str | None:
        """Why nothing may be changed here: who is in charge; None where it is this app."""
        return self._reason

    def __enter__(self) -> Self:
        """Take the lock, or begin to wait for it."""
        if not self._try():
            self._waiting = threading.Thread(target=self._wait, name="app-lock", daemon=True)
            self._waiting.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the lock back."""
        self._ended.set()
        if self._waiting is not None:
            self._waiting.join()
        self._lock.close()

    def _wait(self) -> None:
        while not self._ended.wait(self._poll):
            if self._try():
                return

    def _try(self) -> bool:
        try:
            self._lock.enter_context(self._workspace.exclusive(APP, f"the app at {self._address}"))
        except WorkspaceBusy:
            self._reason = f"{self._workspace.holder(APP) or 'another process'} is in charge of this workspace."
            return False
        self._taken()
        self._reason = None
        return True
