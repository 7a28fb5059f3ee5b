"""Locks that the kernel frees when their holder dies: flock on a file that says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import WorkspaceBusy

__all__ = ["WORKER", "Holder", "busy", "exclusive", "holder_of"]

POLL_SECONDS = 0.02
WORKER = "worker"
"""The lock that is the right to run stages, and what the worker holds it for."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: process id, what for, since when (UTC seconds), and on which machine where that is not surely this one."""

    pid: int
    purpose: str
    since: float
    host: str | None = None

    def __str__(self) -> str:
        """For people."""
        where = f" on {self.host}" if self.host else ""
        return f"process {self.pid}{where} ({self.purpose}, since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC)"


def busy(place: Path, holder: Holder | None) -> WorkspaceBusy:
    """The refusal where ``holder`` has the lock of the workspace at ``place``."""
    return WorkspaceBusy(
        f"{place} is in use by {holder or 'another process'}",
        expected="nobody else running a stage there",
        remedy="Wait until it is done, or stop that process",
    )


def _note(purpose: str) -> bytes:
    return json.dumps({"pid": os.getpid(), "purpose": purpose, "since": time.time()}).encode()


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock at ``path`` now; None where nobody does, whatever an old holder left written in the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(descriptor, fcntl.LOCK_SH):
            return None
        return _read_holder(descriptor) or Holder(0, "starting", time.time())
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path, purpose: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock at ``path`` while the block runs.

    Args:
        path: the lock file; made where missing, never removed, its content is for people only.
        purpose: what the lock is held for, shown to whoever finds it taken.
        wait_seconds: how long to wait for another holder before giving up.

    Raises:
        WorkspaceBusy: another holder kept it; the message says who, what for, and since when.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise busy(path.parent, _read_holder(descriptor))
            time.sleep(POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _note(purpose), 0)
        yield
    finally:
        os.close(descriptor)
