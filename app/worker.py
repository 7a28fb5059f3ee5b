"""The worker: the one process of a workspace that runs stages, one job at a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from app.jobs import Jobs
from app.pulse import Pulse
from app.settings import prepare_environment
from app.workflows import verbs
from app.workflows.durable import serving

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["run_worker"]

SECONDS_FOR_THE_LOCK = 1.0
"""Whoever asks who holds the lock holds it for an instant too."""
TICK_SECONDS = 0.2


def run_worker(workspace: Workspace, *, stop: threading.Event | None = None) -> None:
    """Run the jobs of ``workspace`` until ``stop`` is set; a job that is running then stops at its next report, and stays queued.

    Raises:
        WorkspaceBusy: another process holds the right to run stages.
    """
    prepare_environment()
    stop = stop or threading.Event()
    with workspace.as_worker(wait_seconds=SECONDS_FOR_THE_LOCK), Jobs(workspace) as jobs, Pulse(workspace, jobs.is_cancelled) as pulse:
        verbs.load_all(stop)
        if stop.is_set():
            return
        with serving(workspace, pulse):
            _stay(workspace, jobs, stop)
            pulse.stop()
        jobs.requeue_begun()


def _stay(workspace: Workspace, jobs: Jobs, stop: threading.Event) -> None:
    """Wait for the end; now and then take in answers whose webhook was lost."""
    due = time.monotonic()
    while not stop.wait(TICK_SECONDS):
        if time.monotonic() >= due:
            due = time.monotonic() + _pull_seconds()
            if _answers_are_due(workspace):
                jobs.enqueue("pull", {}, once=True)


def _pull_seconds() -> float:
    from app.settings import Settings

    return Settings.from_environment().pull_seconds


def _answers_are_due(workspace: Workspace) -> bool:
    from app.connections import Connections
    from engine.catalog.remote import waiting

    if Connections.load(workspace).label_studio is None:
        return False
    with workspace.session(write=False) as session:
        return waiting(session) > 0
