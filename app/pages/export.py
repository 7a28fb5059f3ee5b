"""The export page: models as ONNX, labels, GIS layers, all to take away."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.downloads import LAYERS
from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from engine.catalog.models import exports, models
from engine.errors import NothingToDo

__all__ = ["Actions", "add"]

LABELS = (
    ("coco.json", "COCO json"),
    ("yolo.zip", "YOLO"),
    ("voc.zip", "Pascal VOC"),
    ("gpkg", "GeoPackage"),
)
"""What the accepted boxes can be taken away as: the name of the download, and what it is called."""


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def refresh(self, model: str | None, export: str | None) -> tuple[Any, ...]:
        """The models and exports to choose from, and what can be taken away."""
        with self._context.workspace.session(write=False) as session:
            known = [row.name for row in models(session, stage="finetune")]
        made = exports(self._context.workspace)
        return _choice(known, model), _choice(made, export), _files(self._context, made)

    def export(self, model: str | None) -> str:
        """Queue the export of a model."""
        if not model:
            raise NothingToDo("there is no fine-tuned model yet", remedy="Run a round, or retrain, on the page Rounds")
        self._context.jobs.enqueue("export", {"model": model})
        return text.done(f"The export of {model} is queued.")

    def search_scenes(self, export: str | None, score: float) -> str:
        """Queue the search of every scene."""
        if not export:
            raise NothingToDo("no model has been exported", remedy="Export one first")
        self._context.jobs.enqueue("layers", {"export": export, "score_threshold": score})
        return text.done("The search of every scene is queued.")


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Export")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        with gr.Column():
            model = gr.Dropdown([], label="Fine-tuned model", interactive=True, elem_id="model")
            make = gr.Button("Export it to ONNX", variant="primary", elem_id="export")
        with gr.Column():
            chosen = gr.Dropdown([], label="Exported model", interactive=True, elem_id="exported")
            score = gr.Slider(0.05, 0.95, 0.3, step=0.05, label="Boxes from this score up")
            layers = gr.Button("Search every scene, write layers", elem_id="layers")
    jobs_here = gr.Column()
    gr.Markdown("## To take away")
    files = gr.HTML(elem_id="files")
    with jobs_here:
        follow(context, blocks, verbs={"export", "layers"}, refresh=actions.refresh, inputs=[model, chosen], outputs=[model, chosen, files])
    for button, action, given in ((make, actions.export, [model]), (layers, actions.search_scenes, [chosen, score])):
        button.click(
            context.answer(action, outputs=1, changes=True, needs="engineer"), inputs=given, outputs=news, api_visibility="private"
        )


def _choice(known: list[str], shown: str | None) -> Any:
    return gr.update(choices=list(reversed(known)), value=shown if shown in known else (known[-1] if known else None))


def _files(context: PageContext, made: list[str]) -> str:
    rows: list[tuple[Any, ...]] = [
        ("Labels", "every accepted box", text.link(f"/downloads/labels/{name}", shown)) for name, shown in LABELS
    ]
    for name in reversed(made):
        folder = context.workspace.exports / name
        rows.append((name, "ONNX model with its classes", text.link(f"/downloads/exports/{name}", f"{name}.zip")))
        if (folder / LAYERS).is_dir():
            count = sum(path.is_file() for path in (folder / LAYERS).rglob("*"))
            rows.append((name, f"{count} layer files", text.link(f"/downloads/layers/{name}", f"{name}-layers.zip")))
    return text.table(["What", "", "Download"], rows)
