"""Jobs on the job store (DBOS): one workflow for all verbs, each step of it kept, taken up again after a crash.

A step that was stopped, by the user or because its worker ends, leaves by :class:`Stopped`, which DBOS does not keep: the step is run
again when the job goes on. An error is kept as data, never as a pickled exception; resuming the job drops it with the step it came from.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from app.cli.output import as_document
from app.faults import unexpected
from app.workflows.verbs import verb_named
from engine.errors import Cancelled, TilehawkError
from engine.progress import Progress

if TYPE_CHECKING:
    from dbos import DBOSClient

    from app.pulse import Pulse
    from engine.catalog.workspace import Workspace

__all__ = ["EXECUTOR", "QUEUE", "RECOVERIES", "VERSION", "WORKFLOW", "Stopped", "open_store", "serving"]

QUEUE = "jobs"
WORKFLOW = "job"
VERSION = "tilehawk"
"""The same for every release, so that an update strands no job."""
EXECUTOR = "worker"
RECOVERIES = 5
"""A job whose worker died more often than this is given up."""
POLL_SECONDS = 0.2
BUSY_SECONDS = 30.0


class Stopped(BaseException):
    """Leaves a step that was stopped before its end; nothing of it is kept in the job store."""


class Failed(Exception):
    """A step ended in an error; ``document`` says which."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["found"])
        self.document = document


def open_store(workspace: Workspace) -> DBOSClient:
    """A client of the workspace's job store, which is made or brought forward first."""
    from dbos import DBOSClient, DBOSPortableJSONSerializer, run_dbos_database_migrations

    quiet()
    url, schema = workspace.jobs_url, workspace.jobs_schema
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        with contextlib.closing(sqlite3.connect(address.database, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode = WAL").close()
    run_dbos_database_migrations(url, schema=schema)
    return DBOSClient(system_database_url=url, dbos_system_schema=schema, serializer=DBOSPortableJSONSerializer())


def quiet() -> None:
    """Let DBOS say on standard error what went wrong, and nothing else."""
    import logging

    logging.getLogger("dbos").setLevel(logging.CRITICAL)


class DurableSteps:
    """The steps of one job; their results come from the job store where they are there already."""

    def __init__(self, workspace: Workspace, job_id: str, verb: str, pulse: Pulse) -> None:
        self.workspace = workspace
        self._job_id = job_id
        self._verb = verb
        self._pulse = pulse

    def __call__(self, name: str, act: Callable[[Progress], Any]) -> Any:
        """The JSON-ready result of ``act``.

        Raises:
            Failed: the step ended in an error.
            Stopped: the job was cancelled, or the worker ends.
        """
        from dbos import DBOS

        kept = DBOS.run_step({"name": name}, lambda: self._attempt(name, act))
        if "error" in kept:
            raise Failed(kept["error"])
        return kept["result"]

    def _attempt(self, name: str, act: Callable[[Progress], Any]) -> dict[str, Any]:
        with self._pulse.of(self._job_id, prefix="" if name == self._verb else f"{name}: ") as progress:
            try:
                progress(0, 0, f"starting {name}")
                return {"result": as_document(act(progress))}
            except Cancelled as cancelled:
                raise Stopped from cancelled
            except TilehawkError as error:
                return {"error": error.as_json()}
            except Exception:  # noqa: BLE001 - the last resort: the job fails, and the traceback is kept
                return {"error": unexpected(self.workspace.reports).as_json()}


@contextlib.contextmanager
def serving(workspace: Workspace, pulse: Pulse) -> Iterator[None]:
    """Take jobs off the queue while the block runs, one at a time; those whose worker died come back first."""
    from dbos import DBOS, DBOSPortableJSONSerializer

    quiet()
    running = threading.Lock()

    def job(verb: str, config: Mapping[str, Any], inputs: Mapping[str, str], _queued_at: float) -> dict[str, Any]:
        job_id = DBOS.workflow_id
        assert job_id is not None
        with running:
            try:
                known = verb_named(verb)
                report = known.run(DurableSteps(workspace, job_id, verb, pulse), known.config_class.from_mapping(config), inputs)
            except Failed as failed:
                return {"error": failed.document}
            except TilehawkError as error:
                return {"error": error.as_json()}
        return {"report": report}

    DBOS.workflow(name=WORKFLOW, max_recovery_attempts=RECOVERIES)(job)
    DBOS(
        config={
            "name": "tilehawk",
            "system_database_url": workspace.jobs_url,
            "dbos_system_schema": workspace.jobs_schema,
            "enable_otlp": False,
            "application_version": VERSION,
            "executor_id": EXECUTOR,
            "log_level": "CRITICAL",
            "serializer": DBOSPortableJSONSerializer(),
        }
    )
    try:
        DBOS.launch()
        DBOS.register_queue(
            QUEUE, global_concurrency=1, worker_concurrency=1, polling_interval_sec=POLL_SECONDS, on_conflict="always_update"
        )
        yield
    finally:
        DBOS.destroy(destroy_registry=True)
