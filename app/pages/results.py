"""The results page: what a model gets right and wrong on held-out ground, alone or beside another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from engine.catalog.evaluations import stored_evaluation, stored_pictures
from engine.catalog.models import get_model, is_asked, models
from engine.catalog.schema import ModelRow
from engine.errors import BadInput, UsageError
from engine.evaluation.one_shot_plot import CLASSES_PICTURE

__all__ = ["Actions", "add"]

NOBODY = "no other model"
FOUND = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "AP, small (below 32² px)": "ap_small",
    "AP, medium": "ap_medium",
    "AP, large (from 96² px)": "ap_large",
    "AR, 100 boxes a tile": "ar100",
    "AR, 300 boxes a tile": "ar300",
    "best F1": "best_f1",
    "score threshold of the best F1": "best_threshold",
    "tiles": "tiles",
    "true boxes": "boxes",
    "predicted boxes": "detections",
}
"""What is measured of a detector."""
ASKED = {
    "AP50 of learned classes, asked by a crop": "seen",
    "AP50 of classes it never learned": "unseen",
    "questions": "questions",
}
"""What is measured of a model that is asked by a box."""
DIAGRAMS = {
    "precision-recall": "Precision over recall",
    "thresholds": "What a score threshold gives",
    "confusion": "Which class is taken for which",
    "calibration": "Whether a score is the share that is right",
    CLASSES_PICTURE: "What is found of each class when asked by a crop",
}
DIAGRAM_PIXELS, TILE_PIXELS = 460, 300


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def refresh(self, model: str | None, other: str | None, split: str) -> tuple[Any, ...]:
        """The models to choose from, the newest first, and what is known of the chosen ones."""
        with self._context.workspace.session(write=False) as session:
            names = [row.name for row in reversed(models(session)) if row.stage == "finetune" or is_asked(row)]
        chosen = model if model in names else next(iter(names), None)
        beside = other if other in names else NOBODY
        return (
            gr.update(choices=names, value=chosen),
            gr.update(choices=[NOBODY, *names], value=beside),
            *self.show(chosen, beside, split),
        )

    def show(self, model: str | None, other: str | None, split: str) -> tuple[str, str, str, str]:
        """The averages, the classes, the diagrams and the worst tiles."""
        if model is None:
            return text.note("No model that finds objects yet: the pages Rounds and Training make one."), "", "", ""
        names = [model] if other in {None, NOBODY, model} else [model, str(other)]
        try:
            found = [_load(self._context, name, split) for name in names]
        except BadInput as damaged:
            return text.problem(damaged), "", "", ""
        return _averages(found, split), _classes(found), _diagrams(found), "".join(_worst(each) for each in found)

    def measure(self, model: str | None, split: str) -> str:
        """Queue a look at the tiles of the split, and its evaluation."""
        if model is None:
            raise UsageError("no model to measure", expected="a fine-tuned one", remedy="Make one: the page Rounds")
        with self._context.workspace.session(write=False) as session:
            asked = is_asked(get_model(session, model))
        if not asked:
            self._context.jobs.enqueue("predict", {"model": model, "split": split})
        self._context.jobs.enqueue("evaluate", {"model": model, "split": split})
        return text.done(f"{model} will be measured on {split} ground.")


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Results")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        model = gr.Dropdown([], label="Model", interactive=True, elem_id="model")
        other = gr.Dropdown([NOBODY], value=NOBODY, label="Beside it", interactive=True, elem_id="other-model")
        split = gr.Dropdown(["test", "dev", "train"], value="test", label="On the ground of", elem_id="split")
        measure = gr.Button("Measure the model there", elem_id="measure")
    jobs_here = gr.Column()
    averages = gr.HTML(elem_id="averages")
    gr.Markdown("## Classes")
    classes = gr.HTML(elem_id="classes")
    gr.Markdown("## Diagrams")
    diagrams = gr.HTML(elem_id="diagrams")
    gr.Markdown("## Worst tiles")
    worst = gr.HTML(elem_id="worst-tiles")
    chosen, page = [model, other, split], [averages, classes, diagrams, worst]
    with jobs_here:
        follow(context, blocks, verbs={"evaluate", "retrain"}, refresh=actions.refresh, inputs=chosen, outputs=[model, other, *page])
    for changed in chosen:
        changed.input(actions.show, inputs=chosen, outputs=page, api_visibility="private", show_progress="hidden")
    asked = context.answer(actions.measure, outputs=1, changes=True, needs="manager")
    measure.click(asked, inputs=[model, split], outputs=news, api_visibility="private")


@dataclass(frozen=True)
class _Result:
    """What is known of a model on a split: ``metrics`` in any case, empty where it was never measured; ``report`` with all curves."""

    model: ModelRow
    split: str
    metrics: Mapping[str, Any]
    report: Mapping[str, Any]
    pictures: Mapping[str, Path]

    def address(self, name: str) -> str:
        """Where the browser finds a picture; another address once it was drawn anew."""
        return f"/evaluations/{self.model.id}/{self.split}/{name}.png?drawn={self.pictures[name].stat().st_mtime_ns}"


def _load(context: PageContext, name: str, split: str) -> _Result:
    with context.workspace.session(write=False) as session:
        model = get_model(session, name)
    report = stored_evaluation(context.workspace, model, split) or {}
    return _Result(model, split, model.metrics.get(split, {}), report, stored_pictures(context.workspace, model, split))


def _averages(found: Sequence[_Result], split: str) -> str:
    unmeasured = [each.model.name for each in found if not each.metrics]
    missing = text.note(f"Not measured on {split} ground yet: {', '.join(unmeasured)}.") if unmeasured else ""
    if len(unmeasured) == len(found):
        return missing
    rows, measures = [], dict[str, str]()
    for each in found:
        measures |= ASKED if is_asked(each.model) else FOUND
    for title, key in measures.items():
        values = [each.metrics.get(key) for each in found]
        rows.append((title, *values, *_difference(values)))
    names = [each.model.name for each in found]
    return missing + text.table(["", *names, *(["difference"] if len(found) == 2 else [])], rows)


def _difference(values: Sequence[Any]) -> tuple[str, ...]:
    """The first value less the second, with its sign, where there are two."""
    if len(values) != 2:
        return ()
    first, second = values
    if first is None or second is None:
        return ("–",)
    return (f"{first - second:+.3f}" if isinstance(first, float) or isinstance(second, float) else f"{first - second:+d}",)


def _classes(found: Sequence[_Result]) -> str:
    columns = ["Class", "True boxes", "AP", "AP50", "Best F1", "at a score of", "Precision", "Recall"]
    keys = ["name", "boxes", "ap", "ap50", "f1", "threshold", "precision", "recall"]
    tables = []
    for each in found:
        title = text.note(each.model.name) if len(found) > 1 else ""
        if rows := each.report.get("per_class", []):
            tables.append(title + text.table(columns, [[row.get(key) for key in keys] for row in rows]))
        elif asked := each.report.get("metrics", {}).get("rounds_per_class"):
            tables.append(title + _asked_classes(each.report["metrics"], asked))
    return "".join(tables) or text.note("Measure the model to see them.")


def _asked_classes(metrics: Mapping[str, Any], rounds: Mapping[str, Sequence[float]]) -> str:
    """How well each class is found by crops of it, and how much the crop matters."""
    unseen = set(metrics.get("unseen_classes", ()))
    rows = [
        (
            name,
            "no" if name in unseen else "yes",
            metrics.get("ap50_per_class", {}).get(name),
            f"{min(each):.3f} to {max(each):.3f}" if each else None,
        )
        for name, each in rounds.items()
    ]
    return text.table(["Class", "Learned", "AP50, asked by a crop", "From crop to crop"], rows)


def _diagrams(found: Sequence[_Result]) -> str:
    rows = []
    for name, title in DIAGRAMS.items():
        shown = [(each.address(name), f"{each.model.name}: {title}") for each in found if name in each.pictures]
        if shown:
            rows.append(text.gallery(shown, width=DIAGRAM_PIXELS))
    return "".join(rows) or text.note("No pictures yet.")


def _worst(result: _Result) -> str:
    """The tiles with most missed and false boxes: as they were drawn, plain where nothing was, by number where they cannot be read."""
    if "worst_tiles" not in result.report:
        return ""
    wrong, point = result.report["worst_tiles"], result.report.get("point", {})
    unreadable = set(result.report.get("unreadable", []))
    shown = [
        (
            result.address(name) if (name := f"worst-{place:02}") in result.pictures else f"/tiles/{each['tile']}.png?width={TILE_PIXELS}",
            f"tile {each['tile']}: {each['found']} found, {each['missed']} missed, {each['false']} false",
            f"/review?tile={each['tile']}",
        )
        for place, each in enumerate((each for each in wrong if each["tile"] not in unreadable), start=1)
    ]
    head = text.note(
        f"{result.model.name}, boxes from a score of {point.get('threshold', 0):.2f} on: predicted ones in the colour of their class, "
        f"true ones dashed."
    )
    rest = text.note(f"Their pixels cannot be read: tiles {sorted(unreadable)}") if unreadable else ""
    return head + text.gallery(shown, width=TILE_PIXELS) + (rest if wrong else text.note("No box is missed, and none is false."))
