"""The overview page: what is in the workspace, what is at work, what the rounds bought, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import JOBS_SHOWN, SECONDS_BETWEEN_LOOKS, jobs_table, stoppable
from app.pictures import curve_points
from engine.catalog.summary import WorkspaceSummary, summarize

__all__ = ["add", "rounds_table"]


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    gr.Markdown("# Tilehawk")
    next_step = gr.HTML(elem_id="next-step")
    counts = gr.HTML(elem_id="counts")
    gr.Markdown("## Jobs")
    table = gr.HTML(elem_id="jobs")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        chosen_stop = gr.Dropdown([], label="A job to cancel", interactive=True, elem_id="job-to-cancel")
        cancel = gr.Button("Cancel it", elem_id="cancel-job")
        chosen_go_on = gr.Dropdown([], label="A job to go on with", interactive=True, elem_id="job-to-resume")
        resume = gr.Button("Go on with it", elem_id="resume-job")
    gr.Markdown("## Rounds")
    rounds = gr.HTML(elem_id="rounds")
    gr.Markdown("## Models")
    models = gr.HTML(elem_id="models")

    def overview() -> tuple[str, str, str, str]:
        summary = summarize(context.workspace)
        return _next(summary), _counts(summary), rounds_table(summary), _models(summary)

    def look(shown: Any) -> tuple[Any, ...]:
        known = context.jobs.list(limit=JOBS_SHOWN)
        worker = context.jobs.worker()
        key = [(job.id, job.state) for job in known]
        table_now = jobs_table(known, worker=bool(worker and worker.alive))
        if key == shown:
            return table_now, key, *(gr.skip() for _ in range(6))
        stop, go_on = stoppable(known)
        return table_now, key, _choices(stop), _choices(go_on), *overview()

    def stop_job(job_id: str | None) -> str:
        if not job_id:
            return text.note("Choose a job first.")
        return text.done(f"{context.jobs.cancel(job_id).verb} will stop at its next report; what is finished is kept.")

    def go_on_with(job_id: str | None) -> str:
        if not job_id:
            return text.note("Choose a job first.")
        return text.done(f"{context.jobs.resume(job_id).verb} goes on where it was.")

    shown = gr.State(None)
    page = [next_step, counts, rounds, models]
    blocks.load(overview, outputs=page, api_visibility="private", show_progress="hidden")
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS)
    timer.tick(
        look,
        inputs=shown,
        outputs=[table, shown, chosen_stop, chosen_go_on, *page],
        show_progress="hidden",
        api_visibility="private",
    )
    for button, action, given in ((cancel, stop_job, chosen_stop), (resume, go_on_with, chosen_go_on)):
        button.click(
            context.answer(action, outputs=1, changes=True, needs="engineer"), inputs=given, outputs=news, api_visibility="private"
        )


def _choices(jobs: list[tuple[str, str]]) -> Any:
    return gr.update(choices=jobs, value=jobs[0][1] if jobs else None)


def _next(summary: WorkspaceSummary) -> str:
    if not summary.scenes:
        return text.card("Next: bring imagery in, on the page Imagery.", "")
    if not any(model.stage == "pretrain" for model in summary.models):
        return text.card("Next: pre-train on the imagery, on the page Training; no label is needed for it.", "")
    if not summary.annotations:
        return text.card("Next: name the classes on the page Review, or bring labels in on the page Imagery.", "")
    if not summary.rounds:
        return text.card("Next: find look-alikes of an object (page Find), or let a round choose tiles under a budget (page Rounds).", "")
    return text.card("Next: review the tiles of the round, then retrain (page Rounds).", "")


def _counts(summary: WorkspaceSummary) -> str:
    return text.definitions(
        {
            "Workspace": Path(summary.workspace).name,
            "Scenes": summary.scenes,
            "Tiles": summary.tiles,
            "Tiles looked at": summary.reviewed,
            "Boxes": summary.annotations,
            "At work": summary.busy or "nobody",
        }
    )


def rounds_table(summary: WorkspaceSummary) -> str:
    """What each round chose, cost and bought, and the learning curve where there is one."""
    if not summary.rounds:
        return text.note("No round yet: the page Rounds chooses the first tiles to annotate.")
    columns = ["Round", "Strategy", "State", "Tiles", "Budget s", "Expected s", "Measured s", "AP", "AP50"]
    rows = [
        (
            each.number,
            each.strategy,
            each.state,
            each.tiles,
            each.budget_seconds,
            each.estimated_seconds,
            each.measured_seconds,
            each.metrics.get("ap"),
            each.metrics.get("ap50"),
        )
        for each in summary.rounds
    ]
    curve = text.gallery([("/curve.png", "Learning curve: average precision over annotator minutes")], width=640)
    return text.table(columns, rows) + (curve if curve_points(summary.rounds) else "")


def _models(summary: WorkspaceSummary) -> str:
    if not summary.models:
        return text.note("No model yet.")
    rows = [(each.name, each.stage, *(each.metrics.get("test", {}).get(metric) for metric in ("ap", "ap50"))) for each in summary.models]
    return text.table(["Model", "Stage", "AP on test", "AP50 on test"], rows)
