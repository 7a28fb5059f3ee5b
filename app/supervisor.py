"""Keeps a worker running: started where nobody has the workspace, started again when it dies, ended with whoever started it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine.catalog.locks import WORKER

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["Supervisor", "worker_command"]

SECONDS_BETWEEN_LOOKS = 0.25
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""A worker that lived this long is started again at once when it dies."""
SECONDS_TO_END = 30.0


def worker_command(workspace: Workspace) -> list[str]:
    """What starts a worker that ends when its standard input is closed, and so with the process that holds the other end."""
    return [sys.executable, "-m", "app.cli.main", "worker", "--with-parent", "--workspace", str(workspace.root)]


class Supervisor:
    """A context manager: while its block runs, the workspace has a worker.

    Args:
        workspace: whose worker it is.
        command: what starts one; for tests.
    """

    def __init__(self, workspace: Workspace, *, command: Sequence[str] | None = None) -> None:
        self._workspace = workspace
        self._command = list(command or worker_command(workspace))
        self._closed = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True, name="supervisor")

    @property
    def pid(self) -> int | None:
        """The process of the worker that it started; None while there is none."""
        return None if self._child is None else self._child.pid

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End the worker; its job goes on with the next one."""
        self._closed.set()
        self._thread.join()
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _close_input(child)

    def _watch(self) -> None:
        pause, due, started = FIRST_PAUSE_SECONDS, 0.0, 0.0
        while not self._closed.is_set():
            if self._child is not None and self._child.poll() is not None:
                pause = FIRST_PAUSE_SECONDS if time.monotonic() - started > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE_SECONDS)
                due = time.monotonic() + pause
                _close_input(self._child)
                self._child = None
            if self._child is None and time.monotonic() >= due and self._workspace.holder(WORKER) is None:
                started = time.monotonic()
                self._child = subprocess.Popen(  # noqa: S603 - our own command
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
                )
            self._closed.wait(SECONDS_BETWEEN_LOOKS)


def _close_input(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
