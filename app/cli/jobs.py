"""Commands about jobs: worker, jobs list, jobs follow, jobs cancel, jobs resume."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.cli.stage import show_job
from app.settings import find_workspace

if TYPE_CHECKING:
    from app.jobs import Job

__all__ = ["add_to"]

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as tilehawk jobs list shows it.")]


def add_to(app: typer.Typer, jobs: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(worker)
    jobs.command("list")(list_jobs)
    jobs.command()(follow)
    jobs.command()(cancel)
    jobs.command()(resume)


def worker(
    *,
    with_parent: Annotated[bool, typer.Option("--with-parent", help="End when standard input is closed.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Run the jobs of the workspace, one at a time, until Ctrl-C; a job that is running then goes on with the next worker."""
    from app.worker import run_worker
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened, _stopped_by_signal() as stop:
        if with_parent:
            threading.Thread(target=_wait_for_parent, args=(stop,), daemon=True, name="parent").start()
        else:
            sys.stderr.write(f"Working for {opened.root}; Ctrl-C ends it\n")
        run_worker(opened, stop=stop)


@contextlib.contextmanager
def _stopped_by_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for_parent(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def list_jobs(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the jobs, the newest first, and who runs them."""
    from app.jobs import Jobs
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened, Jobs(opened) as jobs:
        known, running = jobs.list(limit=limit), jobs.worker()
    if as_json:
        emit({"worker": running, "jobs": known}, as_json=True)
        return
    who = "none; start one: tilehawk worker"
    if running is not None:
        who = f"process {running.pid} on {running.host}" + ("" if running.alive else ", without a sign of life")
    emit({"worker": who, "jobs": [_row(job) for job in known]}, as_json=False)


def _row(job: Job) -> dict[str, Any]:
    about = job.message if job.state in {"running", "interrupted"} else (job.error or {}).get("found", "")
    return {
        "job": job.id,
        "verb": job.verb,
        "state": job.state,
        "done": f"{job.done}/{job.total}" if job.total else "",
        "queued": f"{datetime.fromtimestamp(job.created, UTC):%Y-%m-%d %H:%M:%S}",
        "about": about,
    }


def follow(job: JobArgument, *, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Follow a job to its end and write its report; Ctrl-C leaves the job alone. Ends as the job did."""
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened:
        report = show_job(opened, job)
    emit(report, as_json=as_json)


def cancel(job: JobArgument, *, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Cancel a job: one in the queue at once, a running one at its next report. What was finished is kept."""
    from app.jobs import Jobs
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened, Jobs(opened) as jobs:
        emit(_answer(jobs.cancel(job), as_json=as_json), as_json=as_json)


def resume(job: JobArgument, *, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Let a job go on that was cancelled, interrupted or failed; training goes on from its last checkpoint."""
    from app.jobs import Jobs
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened, Jobs(opened) as jobs:
        emit(_answer(jobs.resume(job), as_json=as_json), as_json=as_json)


def _answer(job: Job, *, as_json: bool) -> Any:
    return job if as_json else _row(job)
