"""Running a verb from the command line: here, or where a worker has the workspace, by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.output import emit
from app.cli.progress import job as job_progress
from app.settings import find_workspace
from app.workflows.verbs import VERBS, DirectSteps, Verb
from engine.config import StageConfig
from engine.errors import Cancelled, WorkspaceBusy

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["run_flow", "run_stage", "show_job"]


def run_stage(
    verb: str | Callable[..., Any],
    *inputs: Any,
    workspace: Path | None,
    as_json: bool,
    paths: Mapping[str, Path] | None = None,
    no_queue: bool = False,
) -> None:
    """Run a verb on the workspace of this call and write its report to standard output.

    Args:
        verb: its name; ``inputs`` is its configuration then. A function runs here in any case, as ``verb(workspace, *inputs, progress=…)``.
        inputs: see there.
        workspace: what ``--workspace`` says.
        as_json: whether the answer is one JSON document.
        paths: the paths that the verb needs, by name.
        no_queue: refuse where somebody else has the workspace, even if it is a worker that would take the job.

    Raises:
        WorkspaceBusy: another process has the workspace, and it is no worker, or it may not be asked.
    """
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        if callable(verb):
            with job_progress() as progress:
                report = verb(opened, *inputs, progress=progress)
        else:
            report = _run(opened, VERBS[verb], inputs[0], paths or {}, may_queue=not no_queue)
    emit(report, as_json=as_json)


def _run(workspace: Workspace, verb: Verb, config: StageConfig, paths: Mapping[str, Path], *, may_queue: bool) -> Any:
    given = {name: str(path) for name, path in paths.items()}
    if not (may_queue and _worker_has(workspace)):
        try:
            with job_progress() as progress:
                return verb.run(DirectSteps(workspace, progress), config, given)
        except WorkspaceBusy:
            if not (may_queue and _worker_has(workspace)):
                raise
    return _queued(workspace, verb.name, config, given)


def run_flow(verb: str, config: StageConfig, *, workspace: Path | None, as_json: bool, no_queue: bool = False) -> None:
    """Queue a flow and follow it; where nobody has the workspace, a worker runs for as long as this call.

    Raises:
        WorkspaceBusy: another process has the workspace, and it is no worker, or it may not be asked.
    """
    from app.supervisor import Supervisor
    from engine.catalog.locks import WORKER, busy
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        holder = opened.holder(WORKER)
        if holder is not None and (no_queue or holder.purpose != WORKER):
            raise busy(opened.root, holder)
        with Supervisor(opened) if holder is None else nullcontext():
            report = _queued(opened, verb, config, {})
    emit(report, as_json=as_json)


def show_job(workspace: Workspace, job_id: str) -> Any:
    """Follow a job to its end; returns its report.

    Raises:
        Cancelled: this call was stopped; the job is left alone.
        TilehawkError: what the job ended in.
    """
    from app.jobs import Jobs, job_error

    with Jobs(workspace) as jobs:
        jobs.get(job_id)
        try:
            with job_progress() as progress:
                ended = jobs.follow(job_id, progress)
        except (Cancelled, KeyboardInterrupt) as stopped:
            raise Cancelled(
                f"no longer following the job {job_id}, which is left alone",
                remedy=f"See it again: tilehawk jobs follow {job_id}; end it: tilehawk jobs cancel {job_id}",
            ) from stopped
    if ended.state != "done":
        raise job_error(ended)
    return ended.report


def _queued(workspace: Workspace, verb: str, config: StageConfig, inputs: Mapping[str, str]) -> Any:
    from app.jobs import Jobs

    with Jobs(workspace) as jobs:
        job_id = jobs.enqueue(verb, config.model_dump(mode="json", exclude_unset=True), inputs=inputs)
    return show_job(workspace, job_id)


def _worker_has(workspace: Workspace) -> bool:
    from engine.catalog.locks import WORKER

    holder = workspace.holder(WORKER)
    return holder is not None and holder.purpose == WORKER
