"""Jobs as the app and the command line see them: a client that queues, watches, cancels and resumes; it never runs a stage."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import platform
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from app.workflows import durable
from app.workflows.verbs import verb_named
from engine import errors
from engine.catalog.jobs import heartbeat, job_progress
from engine.catalog.locks import WORKER, Holder
from engine.errors import BadInput, TilehawkError, WorkspaceBusy
from engine.progress import Progress

if TYPE_CHECKING:
    from dbos import DBOSClient, EnqueueOptions, WorkflowHandle, WorkflowStatus

    from engine.catalog.schema import JobProgress
    from engine.catalog.workspace import Workspace

__all__ = ["ENDED", "Job", "JobState", "Jobs", "WorkerState", "job_error"]

JobState = Literal["queued", "running", "interrupted", "cancelled", "failed", "done"]
ENDED: frozenset[JobState] = frozenset({"cancelled", "failed", "done"})
SIGN_OF_LIFE_SECONDS = 5.0
"""A worker whose last sign of life is older is taken for dead or hung."""
HUNG_SECONDS = 60.0
"""One that has been silent for longer than any write may wait is ended when its job is resumed."""
SECONDS_TO_DIE = 10.0


@dataclass(frozen=True)
class Job:
    """A job as it stands; times in UTC seconds. ``interrupted``: it was running, and its worker gives no sign of life."""

    id: str
    verb: str
    config: dict[str, Any]
    inputs: dict[str, str]
    state: JobState
    done: int
    total: int
    message: str
    created: float
    started: float | None
    ended: float | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None


@dataclass(frozen=True)
class WorkerState:
    """Who holds the right to run stages as the worker; ``alive``: it gave a sign of life within the last seconds."""

    pid: int
    host: str
    since: float
    alive: bool


def job_error(job: Job) -> TilehawkError:
    """The error of a job that ended without a report, with the exit code that the stage itself would have had."""
    if job.state == "cancelled":
        return errors.Cancelled(f"the job {job.id} was cancelled", remedy=f"Go on with it: tilehawk jobs resume {job.id}")
    document = job.error or {}
    kind: type[TilehawkError] = getattr(errors, str(document.get("error")), TilehawkError)
    return kind(
        str(document.get("found", f"the job {job.id} failed")),
        expected=str(document.get("expected", "")),
        remedy=str(document.get("remedy", "")),
    )


class Jobs:
    """The jobs of a workspace; a context manager, and safe to use from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def _client(self) -> DBOSClient:
        return durable.open_store(self._workspace)

    def __enter__(self) -> Self:
        """Itself, connected."""
        _ = self._client
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connections to the job store."""
        if "_client" in self.__dict__:
            self._client.destroy()
            del self._client

    def enqueue(self, verb: str, config: Mapping[str, Any], *, inputs: Mapping[str, Any] | None = None, once: bool = False) -> str:
        """Queue a job; returns its id.

        Args:
            verb: one of :data:`app.workflows.verbs.VERBS`.
            config: its configuration; what is left out takes its default when the job runs.
            inputs: the paths that it needs, by name.
            once: where the very same job is queued and not begun, return that one's id.

        Raises:
            UsageError: an unknown verb, key or input, or an impossible value; nothing is queued then.
        """
        checked_config, checked_inputs = verb_named(verb).checked(config, inputs or {})
        text = json.dumps([verb, checked_config, checked_inputs], sort_keys=True)
        same = hashlib.sha256(text.encode()).hexdigest()[:6]
        options: dict[str, Any] = {
            "queue_name": durable.QUEUE,
            "workflow_name": durable.WORKFLOW,
            "app_version": durable.VERSION,
            "workflow_id": f"{same}{secrets.token_hex(3)}",
        }
        if once:
            options |= {"deduplication_id": f"{same} after {self._last_begun(same)}", "duplication_policy": "return-existing"}
        handle: WorkflowHandle[Any] = self._client.enqueue(
            cast("EnqueueOptions", options), verb, checked_config, checked_inputs, time.time()
        )
        return handle.workflow_id

    def _last_begun(self, prefix: str) -> str:
        """The newest of the same jobs that has begun: until the next one begins, all that ask for one mean the one that waits."""
        begun = self._client.list_workflows(
            workflow_id_prefix=prefix, sort_desc=True, limit=LOOKED_THROUGH, load_output=False, status=list(NOT_QUEUED)
        )
        return max(begun, key=_queued_at).workflow_id if begun else "none"

    def list(self, *, limit: int = 50) -> list[Job]:
        """The newest jobs, the newest first."""
        return sorted(
            self._jobs(self._client.list_workflows(name=durable.WORKFLOW, sort_desc=True, limit=limit)),
            key=attrgetter("created"),
            reverse=True,
        )

    def get(self, job_id: str) -> Job:
        """The job of that id.

        Raises:
            BadInput: there is none; the nearest is named.
        """
        found = self._client.list_workflows(workflow_ids=[job_id], name=durable.WORKFLOW)
        if not found:
            known = [each.workflow_id for each in self._client.list_workflows(name=durable.WORKFLOW, load_input=False, load_output=False)]
            nearest = difflib.get_close_matches(job_id, known, n=1, cutoff=0.3)
            raise BadInput(
                f"no job {job_id!r}",
                expected="a job of this workspace",
                remedy=f"Did you mean {nearest[0]!r}?" if nearest else "See: tilehawk jobs list",
            )
        return self._jobs(found)[0]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: a queued one at once, a running one at its next report. One that has ended is left as it is."""
        job = self.get(job_id)
        if job.state in ENDED:
            return job
        self._client.cancel_workflow(job_id)
        return self.get(job_id)

    def is_cancelled(self, job_id: str) -> bool:
        """Whether the job has been cancelled; cheap."""
        found = self._client.list_workflows(workflow_ids=[job_id], load_input=False, load_output=False)
        return bool(found) and found[0].status == "CANCELLED"

    def resume(self, job_id: str) -> Job:
        """Let a job that was cancelled, interrupted or failed go on where it was; a queued or running one is left alone.

        Raises:
            BadInput: the job is done.
            WorkspaceBusy: its worker hangs, and is not known to be dead.
        """
        job = self.get(job_id)
        if job.state == "done":
            raise BadInput(f"the job {job_id} is done", expected="one that was cancelled, interrupted or failed", remedy="Queue a new one")
        if job.state == "interrupted":
            self._resume_interrupted(job)
        elif job.state == "failed" and job.report is None and (steps := self._client.list_workflow_steps(job_id)):
            last = max(step["function_id"] for step in steps)
            self._client.rewind_workflow(job_id, start_step=last, queue_name=durable.QUEUE, application_version=durable.VERSION)
        elif job.state == "failed":
            self._client.rewind_workflow(job_id, queue_name=durable.QUEUE, application_version=durable.VERSION)
        elif job.state == "cancelled":
            self._requeue(job_id)
        return self.get(job_id)

    def _resume_interrupted(self, job: Job) -> None:
        self._end_hung_worker()
        with self._workspace.worker_lock(f"resuming {job.id}"):
            self._requeue(job.id)

    def _end_hung_worker(self) -> None:
        """Kill the worker where it holds its lock on this machine and has been silent for long.

        Raises:
            WorkspaceBusy: it may yet live.
        """
        holder, silent = self._holder(), self._silence()
        if holder is None or silent is None or holder.purpose != WORKER:
            return
        pid, host, seconds = silent
        if seconds < HUNG_SECONDS or host != platform.node() or pid != holder.pid:
            raise WorkspaceBusy(
                f"the worker (process {pid} on {host}) has given no sign of life for {seconds:.0f} s and still holds the workspace",
                expected="a worker that answers, or none",
                remedy=f"Wait until it goes on, or end it: kill -9 {pid} (the job goes on with the next worker)",
            )
        os.kill(holder.pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS_TO_DIE
        while self._holder() is not None and time.monotonic() < deadline:
            time.sleep(0.05)

    def requeue_begun(self) -> None:
        """Put back what was begun; for a worker that ends, when none of its jobs is running any more."""
        for each in self._client.list_workflows(name=durable.WORKFLOW, status="PENDING", load_input=False, load_output=False):
            self._requeue(each.workflow_id)

    def _requeue(self, job_id: str) -> None:
        self._client.resume_workflow(job_id, queue_name=durable.QUEUE)

    def follow(self, job_id: str, progress: Progress, *, poll_seconds: float = 0.25) -> Job:
        """Report on a job until it ends; returns it as it ended. ``progress`` may raise ``Cancelled``: that leaves the job alone."""
        while True:
            job = self.get(job_id)
            if job.state in ENDED:
                if job.total:
                    progress(job.done, job.total, job.message)
                return job
            if job.state == "running":
                progress(job.done, job.total, job.message or job.verb)
            else:
                progress(0, 0, self._why_it_waits(job))
            time.sleep(poll_seconds)

    def _why_it_waits(self, job: Job) -> str:
        if job.state == "interrupted":
            return f"{job.id} was interrupted: its worker gives no sign of life"
        return f"{job.id} is queued" + ("" if self.worker() else "; no worker runs, start one: tilehawk worker")

    def worker(self) -> WorkerState | None:
        """The worker that holds the workspace; None where none does."""
        holder = self._holder()
        if holder is None or holder.purpose != WORKER:
            return None
        silent = self._silence()
        if silent is None or silent[0] != holder.pid:
            return WorkerState(
                holder.pid, holder.host or platform.node(), holder.since, alive=time.time() - holder.since <= SIGN_OF_LIFE_SECONDS
            )
        pid, host, seconds = silent
        return WorkerState(pid, host, holder.since, alive=seconds <= SIGN_OF_LIFE_SECONDS)

    def _holder(self) -> Holder | None:
        return self._workspace.holder(WORKER)

    def _silence(self) -> tuple[int, str, float] | None:
        """Process, machine and seconds since the last sign of life of a worker."""
        with self._workspace.session(write=False) as session:
            beat = heartbeat(session)
            return None if beat is None else (beat.pid, beat.host, time.time() - beat.at)

    def _jobs(self, found: Sequence[WorkflowStatus]) -> Sequence[Job]:
        with self._workspace.session(write=False) as session:
            progress = job_progress(session, [each.workflow_id for each in found])
        alive = None
        if any(each.status == "PENDING" for each in found):
            worker = self.worker()
            alive = worker is not None and worker.alive
        return [_job(each, progress.get(each.workflow_id), alive=bool(alive)) for each in found]


LOOKED_THROUGH = 20
"""The job store dates to the second; as many jobs of one kind may begin within one."""
NOT_QUEUED = ("PENDING", "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def _queued_at(found: WorkflowStatus) -> float:
    """When it was queued, in UTC seconds: its own note."""
    assert found.input is not None, "jobs are read with what they were given"
    return float(found.input["args"][-1])


def _job(found: WorkflowStatus, progress: JobProgress | None, *, alive: bool) -> Job:
    assert found.input is not None, "jobs are read with what they were given"
    verb, config, inputs, created = found.input["args"]
    state, report, error = _outcome(found, alive=alive)
    return Job(
        id=found.workflow_id,
        verb=verb,
        config=dict(config),
        inputs=dict(inputs),
        state=state,
        done=progress.done if progress else 0,
        total=progress.total if progress else 0,
        message=progress.message if progress else "",
        created=created,
        started=found.dequeued_at / 1000 if found.dequeued_at else None,
        ended=found.completed_at / 1000 if found.completed_at and state in ENDED else None,
        report=report,
        error=error,
    )


def _outcome(found: WorkflowStatus, *, alive: bool) -> tuple[JobState, dict[str, Any] | None, dict[str, Any] | None]:
    if found.status in {"ENQUEUED", "DELAYED"}:
        return "queued", None, None
    if found.status == "PENDING":
        return ("running" if alive else "interrupted"), None, None
    if found.status == "CANCELLED":
        return "cancelled", None, None
    if found.status == "SUCCESS" and isinstance(found.output, Mapping):
        if "error" not in found.output:
            return "done", found.output.get("report"), None
        return "failed", None, dict(found.output["error"])
    if found.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        given_up = TilehawkError(
            f"the worker died {durable.RECOVERIES + 1} times while it ran {found.workflow_id}",
            expected="a worker that lives through the job",
            remedy=f"Look for what ends it (memory?), then: tilehawk jobs resume {found.workflow_id}",
        )
        return "failed", None, given_up.as_json()
    return "failed", None, TilehawkError(f"unexpected: {found.error}", remedy="This is a fault in Tilehawk").as_json()
