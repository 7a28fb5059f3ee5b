"""The training page: what is learned without labels and with them, and what it looks like meanwhile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.pages.numbers import BY_LABELS, IMAGES_LABEL, learned_images, whole
from engine.catalog.models import models
from engine.catalog.training_logs import LoggedRun, logged_runs
from engine.errors import UsageError

__all__ = ["BESIDE", "PRESETS", "TASKS", "Actions", "Preset", "add"]

TASKS: dict[str, dict[str, Any]] = {
    "Find patches that were cut out (UP-DETR)": {"patches": {}},
    "Find what stands out, and tell it apart (regions)": {"regions": {"taught": "clusters"}},
    "Find what looks like a region of another tile (one-shot)": {"regions": {"taught": "look-alikes"}},
    "Name what was hidden (MIM)": {"encoder": {"task": "mim-discrete"}},
    "Paint what was hidden (MIM)": {"encoder": {"task": "mim-continuous"}},
    "Say what was where (jigsaw)": {"encoder": {"task": "jigsaw-discrete"}},
    "Paint what was moved (jigsaw)": {"encoder": {"task": "jigsaw-continuous"}},
    "Paint the tile (reconstruction)": {"encoder": {"task": "reconstruction"}},
}


class Preset(NamedTuple):
    """Tasks that go well together, and whether the backbone learns with them."""

    tasks: tuple[str, ...]
    backbone: bool


_PATCHES, _REGIONS, _LOOK_ALIKES, *_ = TASKS
PRESETS = {
    "Regions: a start for a detector of classes": Preset((_REGIONS,), backbone=True),
    "Look-alikes: a start for a detector that is asked by a box": Preset((_LOOK_ALIKES,), backbone=True),
    "UP-DETR: patches, the backbone frozen": Preset((_PATCHES,), backbone=False),
}
IMAGES = "training images"
NOTHING = "nothing beside"
ALONE = "no other run"
BESIDE = {NOTHING: None} | {label: task["encoder"] for label, task in TASKS.items() if "encoder" in task}
DIAGRAM_PIXELS, PICTURE_PIXELS = 900, 420


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def pretrain(self, tasks: Sequence[str], images: float | None, backbone: bool) -> str:
        """Queue pre-training by the chosen tasks."""
        chosen: dict[str, Any] = {"patches": None}
        for label in tasks:
            for part, values in TASKS[label].items():
                if chosen.get(part) is not None:
                    raise UsageError(
                        f"two tasks of one kind: {', '.join(each for each in tasks if part in TASKS[each])}",
                        expected="one encoder task and one kind of regions at most",
                        remedy="Choose one of them",
                    )
                chosen[part] = values
        if not tasks:
            raise UsageError("no task", expected="one at least", remedy="Tick what is to be learned")
        chosen |= {"freeze_backbone": not backbone, "schedule": {"images_seen": whole(images, IMAGES)}}
        self._context.jobs.enqueue("pretrain", chosen)
        return text.done("Pre-training is queued.")

    def preset(self, name: str) -> tuple[list[str], bool]:
        """Tasks of a preset, and whether the backbone learns: what the details then say."""
        chosen = PRESETS[name]
        return list(chosen.tasks), chosen.backbone

    def finetune(self, images: float | None, beside: str, believe: bool) -> str:
        """Queue fine-tuning on what was reviewed, with an encoder task beside it, or with what the newest detector believes of the rest."""
        config: dict[str, Any] = {"schedule": learned_images(images)}
        if BESIDE[beside]:
            config["encoder"] = BESIDE[beside]
        if believe:
            with self._context.workspace.session(write=False) as session:
                teachers = models(session, stage="finetune")
            if not teachers:
                raise UsageError(
                    "no detector that could label the other tiles", expected="a fine-tuned one", remedy="Fine-tune without it first"
                )
            config |= {"start": teachers[-1].name, "self_training": {}}
        self._context.jobs.enqueue("finetune", config)
        return text.done("Fine-tuning is queued.")

    def one_shot(self, images: float | None) -> str:
        """Queue the training of a detector that is asked by boxes."""
        self._context.jobs.enqueue("one-shot", {"schedule": learned_images(images)})
        return text.done("One-shot training is queued; the page Find uses the model when it is there.")

    def refresh(self, run: str | None, beside: str | None = None) -> tuple[Any, Any, str, str]:
        """The runs to choose from, the newest first, and what is known of the chosen one."""
        known = logged_runs(self._context.workspace)
        names = [each.name for each in known]
        chosen = run if run in names else next(iter(names), None)
        other = beside if beside in names else ALONE
        return gr.update(choices=names, value=chosen), gr.update(choices=[ALONE, *names], value=other), *self.show(chosen, other)

    def show(self, run: str | None, beside: str | None = None) -> tuple[str, str]:
        """Curves of a run, beside those of another one, and its pictures."""
        known = {each.name: each for each in logged_runs(self._context.workspace)}
        if run not in known:
            return text.note("No training run yet."), ""
        return _curves(known[run], known.get(beside or "")), _pictures(known[run])


def _curves(run: LoggedRun, other: LoggedRun | None) -> str:
    seen = _seen(run)
    if not seen:
        return text.note("The run has not finished a step yet.")
    address, caption = f"/training/{run.name}/curves.png?seen={seen}", f"{run.name} after {seen:,} images"
    if other is not None and other.name != run.name:
        address += f"-{_seen(other)}&beside={other.name}"
        caption += f", {other.name} after {_seen(other):,}"
    return text.gallery([(address, caption)], width=DIAGRAM_PIXELS)


def _seen(run: LoggedRun) -> int:
    return max((curve.images_seen[-1] for curve in run.curves().values()), default=0)


def _pictures(run: LoggedRun) -> str:
    kinds: dict[str, list[str]] = {}
    for name in run.pictures:
        kinds.setdefault(re.sub(r"-\d+$", "", name), []).append(name)
    if not kinds:
        return text.note("This run draws no pictures: there are some of all that is learned but labels alone.")
    shown = [name for names in kinds.values() for name in dict.fromkeys((names[0], names[len(names) // 2], names[-1]))]
    return text.gallery([(address := f"/training/{run.name}/{name}.png", _caption(name), address) for name in shown], width=PICTURE_PIXELS)


def _caption(name: str) -> str:
    kind, _, seen = name.rpartition("-")
    said = {
        "encoder": "what the encoder saw, what was asked for, what it answered",
        "patches": "where patches were cut out (thin) and found (thick)",
        "regions": "regions that were taught, and beside them what is found now",
        "asked": "objects of the class that was asked for, and beside them what the crop in the corner finds",
    }.get(kind, kind)
    return f"{said} · after {int(seen):,} images"


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    usual, *_ = PRESETS
    usual_tasks, usual_backbone = actions.preset(usual)
    gr.Markdown("# Training")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        with gr.Column():
            gr.Markdown("## Without labels, on all training tiles")
            preset = gr.Radio(list(PRESETS), value=usual, label="What for", elem_id="preset")
            images = gr.Number(1200, label="Training images seen in all", precision=0, minimum=1, elem_id="pretrain-images")
            with gr.Accordion("Details: what is learned", open=False, elem_id="pretrain-details"):
                tasks = gr.CheckboxGroup(list(TASKS), value=usual_tasks, label="Tasks, side by side", elem_id="tasks")
                backbone = gr.Checkbox(usual_backbone, label="The backbone learns too", elem_id="pretrain-backbone")
            pretrain = gr.Button("Pre-train", elem_id="pretrain")
        with gr.Column():
            gr.Markdown("## From what was reviewed")
            labelled = gr.Number(BY_LABELS, label=IMAGES_LABEL, precision=0, minimum=0, elem_id="finetune-images")
            with gr.Accordion("Details: what unlabelled tiles add", open=False, elem_id="finetune-details"):
                beside = gr.Dropdown(list(BESIDE), value=NOTHING, label="Beside the labels, on all training tiles", elem_id="beside")
                believe = gr.Checkbox(False, label="Learn what the newest detector is sure of elsewhere (self-training)", elem_id="believe")
            finetune = gr.Button("Fine-tune a detector", elem_id="finetune")
            one_shot = gr.Button("Train a detector that is asked by a box (one-shot)", elem_id="one-shot")
    jobs_here = gr.Column()
    gr.Markdown("## Runs")
    with gr.Row():
        run = gr.Dropdown([], label="Run", interactive=True, elem_id="run")
        beside_run = gr.Dropdown([ALONE], value=ALONE, label="Curves beside those of", interactive=True, elem_id="beside-run")
    curves = gr.HTML(elem_id="curves")
    pictures = gr.HTML(elem_id="training-pictures")
    chosen, shown = [run, beside_run], [run, beside_run, curves, pictures]
    with jobs_here:
        verbs = {"pretrain", "finetune", "one-shot", "retrain", "round"}
        follow(context, blocks, verbs=verbs, refresh=actions.refresh, inputs=chosen, outputs=shown)
    for dropdown in chosen:
        dropdown.input(actions.show, inputs=chosen, outputs=[curves, pictures], api_visibility="private", show_progress="hidden")
    look = gr.Button("Look again", elem_id="look-again")
    look.click(actions.refresh, inputs=chosen, outputs=shown, api_visibility="private", show_progress="hidden")
    preset.input(actions.preset, inputs=preset, outputs=[tasks, backbone], api_visibility="private", show_progress="hidden")
    for button, action, given in (
        (pretrain, actions.pretrain, [tasks, images, backbone]),
        (finetune, actions.finetune, [labelled, beside, believe]),
        (one_shot, actions.one_shot, [labelled]),
    ):
        button.click(
            context.answer(action, outputs=1, changes=True, needs="engineer"), inputs=given, outputs=news, api_visibility="private"
        )
