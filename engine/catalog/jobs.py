"""What the worker writes about itself and its jobs: progress and a sign of life. Whether a job runs is the job store's to say."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.schema import JobProgress, WorkerHeartbeat

__all__ = ["heartbeat", "job_progress", "set_heartbeat", "set_job_progress"]

LONGEST_MESSAGE = 512
ONLY_WORKER = 1


def job_progress(session: Session, job_ids: Iterable[str]) -> dict[str, JobProgress]:
    """By job id, the last report of each job that has made one."""
    rows = session.scalars(select(JobProgress).where(JobProgress.job_id.in_(list(job_ids))))
    return {row.job_id: row for row in rows}


def set_job_progress(session: Session, job_id: str, *, done: int, total: int, message: str, at: float) -> None:
    """Write how far a job is; ``at`` in UTC seconds. A message that is too long is cut."""
    session.merge(JobProgress(job_id=job_id, done=done, total=total, message=message[:LONGEST_MESSAGE], at=at))


def heartbeat(session: Session) -> WorkerHeartbeat | None:
    """The last sign of life of a worker, however old; None where there was never one."""
    return session.get(WorkerHeartbeat, ONLY_WORKER)


def set_heartbeat(session: Session, *, pid: int, host: str, since: float, at: float) -> None:
    """Write that the worker is alive; ``since`` and ``at`` in UTC seconds."""
    session.merge(WorkerHeartbeat(id=ONLY_WORKER, pid=pid, host=host, since=since, at=at))
