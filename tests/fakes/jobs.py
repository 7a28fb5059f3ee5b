"""Jobs that are only noted: what :class:`app.jobs.Jobs` is to those who queue."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import BadInput


@dataclass
class QueuedJob:
    """A job that was asked for."""

    id: str
    verb: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    begun: bool = False
    state: str = "queued"
    report: dict[str, Any] | None = None


@dataclass
class FakeJobs:
    """Keeps what was queued; with ``once`` the same job that waits is not doubled."""

    queued: list[QueuedJob] = field(default_factory=list)
    asked: int = 0
    _ids: Any = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enqueue(self, verb: str, config: Mapping[str, Any], *, inputs: Mapping[str, Any] | None = None, once: bool = False) -> str:
        with self._lock:
            self.asked += 1
            wanted = (verb, dict(config), dict(inputs or {}))
            for job in self.queued if once else ():
                if (job.verb, job.config, job.inputs) == wanted and not job.begun:
                    return job.id
            job = QueuedJob(f"job-{next(self._ids)}", *wanted)
            self.queued.append(job)
            return job.id

    def list(self, *, limit: int = 50) -> list[Any]:
        return []

    def get(self, job_id: str) -> QueuedJob:
        for job in self.queued:
            if job.id == job_id:
                return job
        raise BadInput(f"no job {job_id!r}")

    def worker(self) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""
