"""The worker's pulse: a sign of life every second, the progress of its job, and an ear for those who cancel it.

A stage may report while it is writing to the catalog, so a report itself touches no database: it leaves its numbers here, and two threads
write them down and ask the job store.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy.exc import OperationalError

from engine.catalog.jobs import set_heartbeat, set_job_progress
from engine.errors import Cancelled
from engine.progress import Progress

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["BEAT_SECONDS", "Pulse"]

BEAT_SECONDS = 1.0
SECONDS_BETWEEN_REPORTS = 0.5
SECONDS_BETWEEN_QUESTIONS = 0.25


class Pulse:
    """A context manager: the threads live while its block runs.

    Args:
        workspace: whose worker this is.
        cancelled: whether the job of an id has been cancelled; asked a few times a second while a job runs.
    """

    def __init__(self, workspace: Workspace, cancelled: Callable[[str], bool]) -> None:
        self._workspace = workspace
        self._is_cancelled = cancelled
        self._since = time.time()
        self._one_job = threading.Lock()
        self._job_id: str | None = None
        self._latest: tuple[str, int, int, str] | None = None
        self._written: tuple[str, int, int, str] | None = None
        self._writing = threading.Lock()
        self._news = threading.Event()
        self._cancelled = threading.Event()
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=act, daemon=True, name=name) for act, name in ((self._beat, "pulse"), (self._ask, "ear"))]

    def __enter__(self) -> Self:
        """Begin, with a first sign of life."""
        self._write(beat=True)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End the threads."""
        self._closed.set()
        self._news.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def of(self, job_id: str, *, prefix: str = "") -> Iterator[Progress]:
        """The progress of a step of ``job_id``; its last report is written when the block ends. One step at a time."""

        def progress(done: int, total: int, message: str) -> None:
            self._latest = (job_id, done, total, prefix + message)
            self._news.set()
            if self._stopping.is_set():
                raise Cancelled("the worker is stopping", remedy="The job goes on with the next worker")
            if self._cancelled.is_set():
                raise Cancelled("cancelled by the user", remedy=f"Go on with it: tilehawk jobs resume {job_id}")

        with self._one_job:
            self._cancelled.clear()
            self._job_id = job_id
            try:
                yield progress
            finally:
                self._job_id = None
                self._write(beat=False)
                self._latest = None

    def stop(self) -> None:
        """Make the next report of any job raise :class:`Cancelled`; returns when no step is running any more."""
        self._stopping.set()
        with self._one_job:
            pass

    def _beat(self) -> None:
        due = time.monotonic() + BEAT_SECONDS
        while not self._closed.is_set():
            told = self._news.wait(max(due - time.monotonic(), 0))
            self._news.clear()
            beat = time.monotonic() >= due
            if beat:
                due = time.monotonic() + BEAT_SECONDS
            self._write(beat=beat)
            if told:
                self._closed.wait(SECONDS_BETWEEN_REPORTS)

    def _ask(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_QUESTIONS):
            job_id = self._job_id
            if job_id is not None and self._is_cancelled(job_id) and self._job_id == job_id:
                self._cancelled.set()

    def _write(self, *, beat: bool) -> None:
        with self._writing:
            report = self._latest
            if not beat and report is self._written:
                return
            now = time.time()
            try:
                with self._workspace.session() as session:
                    if beat:
                        set_heartbeat(session, pid=os.getpid(), host=platform.node(), since=self._since, at=now)
                    if report is not None and report is not self._written:
                        job_id, done, total, message = report
                        set_job_progress(session, job_id, done=done, total=total, message=message, at=now)
            except OperationalError as busy:
                sys.stderr.write(f"the worker could not write its sign of life: {busy.orig}\n")
            else:
                self._written = report
