"""The export page: models as ONNX, labels, GIS layers, all to take away."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.workflows.layers import LAYERS, exports
from engine.catalog.models import models
from engine.errors import NothingToDo

__all__ = ["add"]


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    gr.Markdown("# Export")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        model = gr.Dropdown([], label="Fine-tuned model", interactive=True, elem_id="model")
        make = gr.Button("Export it to ONNX", variant="primary", elem_id="export")
        chosen = gr.Dropdown([], label="Exported model", interactive=True, elem_id="exported")
        score = gr.Slider(0.05, 0.95, 0.3, step=0.05, label="Boxes from this score up")
        layers = gr.Button("Search every scene, write layers", elem_id="layers")
    follow_here = gr.Column()
    gr.Markdown("## To take away")
    files = gr.HTML(elem_id="files")

    def refresh(shown_model: str | None, shown_export: str | None) -> tuple[Any, ...]:
        with context.workspace.session(write=False) as session:
            known = [row.name for row in models(session, stage="finetune")]
        made = exports(context.workspace)
        return _choice(known, shown_model), _choice(made, shown_export), _files(context, made)

    def start(name: str | None) -> str:
        if not name:
            raise NothingToDo("there is no fine-tuned model yet", remedy="Run a round, or retrain, on the page Rounds")
        context.jobs.enqueue("export", {"model": name})
        return text.done(f"The export of {name} is queued.")

    def search(name: str | None, threshold: float) -> str:
        if not name:
            raise NothingToDo("no model has been exported", remedy="Export one first")
        context.jobs.enqueue("layers", {"export": name, "score_threshold": threshold})
        return text.done("The search of every scene is queued.")

    with follow_here:
        follow(context, blocks, verbs={"export", "layers"}, refresh=refresh, inputs=[model, chosen], outputs=[model, chosen, files])
    make.click(context.answer(start, outputs=1, changes=True), inputs=model, outputs=news, api_visibility="private")
    layers.click(context.answer(search, outputs=1, changes=True), inputs=[chosen, score], outputs=news, api_visibility="private")


def _choice(known: list[str], shown: str | None) -> Any:
    return gr.update(choices=list(reversed(known)), value=shown if shown in known else (known[-1] if known else None))


def _files(context: PageContext, made: list[str]) -> str:
    rows: list[tuple[Any, ...]] = [("Labels", "every accepted box", text.link("/downloads/labels/coco.json", "COCO json"))]
    for name in reversed(made):
        folder = context.workspace.exports / name
        rows.append((name, "ONNX model with its classes", text.link(f"/downloads/exports/{name}", f"{name}.zip")))
        if (folder / LAYERS).is_dir():
            count = sum(path.is_file() for path in (folder / LAYERS).rglob("*"))
            rows.append((name, f"{count} layer files", text.link(f"/downloads/layers/{name}", f"{name}-layers.zip")))
    return text.table(["What", "", "Download"], rows)
