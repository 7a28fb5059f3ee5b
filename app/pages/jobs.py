"""Jobs as a page shows them: a table that follows them, and what their end changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext

if TYPE_CHECKING:
    from app.jobs import Job

__all__ = ["follow", "jobs_table", "stoppable"]

SECONDS_BETWEEN_LOOKS = 1.0
JOBS_SHOWN = 12
SHORT_ID = 8
GOING_ON = frozenset({"queued", "running"})


def jobs_table(jobs: Sequence[Job], *, worker: bool) -> str:
    """The jobs, newest first, each with how far it is, or what it brought, or what to do about it."""
    if not jobs:
        return text.note("No job yet.")
    rows = [
        (job.verb, job.state, text.bar(job.done, job.total) if job.state == "running" else "", _words(job), _age(job), job.id[:SHORT_ID])
        for job in jobs
    ]
    waiting = any(job.state in GOING_ON for job in jobs) and not worker
    hint = text.note("No worker gives a sign of life; jobs wait until there is one: tilehawk worker") if waiting else ""
    return hint + text.table(["Job", "State", "", "", "Time", "Number"], rows)


def stoppable(jobs: Sequence[Job]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(label, id) of the jobs that can be cancelled, and of those that can go on."""
    named = [(f"{job.verb} · {job.state} · {job.id[:SHORT_ID]}", job) for job in jobs]
    stop = [(label, job.id) for label, job in named if job.state in GOING_ON]
    go_on = [(label, job.id) for label, job in named if job.state in {"cancelled", "interrupted", "failed"}]
    return stop, go_on


def _words(job: Job) -> str:
    if job.state == "failed" and job.error:
        parts = [str(job.error.get("found", ""))]
        parts += [f"do: {job.error['remedy']}"] if job.error.get("remedy") else []
        return " – ".join(parts)
    if job.state == "interrupted":
        return "its worker gives no sign of life; it goes on where it was as soon as a worker runs"
    if job.state == "running":
        return f"{job.message} {job.done}/{job.total}" if job.total else job.message
    if job.state == "done" and job.report:
        plain = {key: value for key, value in job.report.items() if isinstance(value, (int, float, str)) and not isinstance(value, bool)}
        return ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in list(plain.items())[:5])
    return ""


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _age(job: Job) -> str:
    seconds = max(0, round((job.ended or time.time()) - (job.started or job.created)))
    return f"{seconds // 60}:{seconds % 60:02}"


def follow(
    context: PageContext,
    blocks: gr.Blocks,
    *,
    verbs: Collection[str],
    refresh: Callable[..., Any],
    outputs: Sequence[Any],
    inputs: Sequence[Any] = (),
    shown: int = 3,
    preprocess: bool = True,
) -> None:
    """A table of the last jobs of these verbs, looked at every second; ``refresh`` fills ``outputs`` at each visit and when one ends.

    Without ``preprocess`` it gets its ``inputs`` as the browser sent them: a component whose bounds ``refresh`` narrows would refuse
    the value that it was sent before.
    """
    table = gr.HTML(elem_id="jobs")
    ended = gr.State(None)

    def look(seen: str | None, *values: Any) -> tuple[Any, ...]:
        mine = [job for job in context.jobs.list(limit=50) if job.verb in verbs]
        worker = context.jobs.worker()
        finished = ",".join(job.id for job in mine if job.state not in GOING_ON)
        if seen == finished:
            fresh: tuple[Any, ...] = tuple(gr.skip() for _ in outputs)
        else:
            found = refresh(*values)
            fresh = found if isinstance(found, tuple) else (found,)
        return jobs_table(mine[:shown], worker=bool(worker and worker.alive)), finished, *fresh

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": preprocess}
    blocks.load(refresh, inputs=list(inputs), outputs=list(outputs), **quiet)
    gr.Timer(SECONDS_BETWEEN_LOOKS).tick(look, inputs=[ended, *inputs], outputs=[table, ended, *outputs], **quiet)
