"""Commands that make models and use them: pretrain, finetune, one-shot, predict."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.stage import run_stage

__all__ = ["add_to"]

NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of what is made; else one is made up.", show_default=False)
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Decides initial weights, order and augmentation.", show_default=False)]
StartOption = Annotated[
    str | None,
    typer.Option("--from", metavar="MODEL", help="The model to start from, or scratch; else the newest pre-trained.", show_default=False),
]
ImagesOption = Annotated[int | None, typer.Option("--images", help="Training images seen in all: how long it takes.", show_default=False)]


class Preset(StrEnum):
    """Names in ``engine.models.presets``, known here without loading torch."""

    NANO = "nano"
    SMALL = "small"
    BASE = "base"


PresetOption = Annotated[
    Preset | None,
    typer.Option("--preset", help="The size of the detector; --config and --set go over it.", show_default=False),
]


def _sized(preset: Preset | None) -> dict[str, Any]:
    from engine.models.presets import PRESETS

    return {f"detector.{key}": value for key, value in PRESETS[preset].model_dump(mode="json").items()} if preset else {}


def _learning(preset: Preset | None, start: str | None) -> dict[str, Any]:
    """A backbone of random weights has nothing to teach frozen."""
    from engine.models.presets import PRESETS

    return {"freeze_backbone": False} if preset and start is None and PRESETS[preset].backbone_weights == "none" else {}


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(pretrain)
    app.command()(finetune)
    app.command()(one_shot)
    app.command()(predict)


def pretrain(
    *,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="The pre-trained model to go on from; else the backbone's weights.", show_default=False
        ),
    ] = None,
    preset: PresetOption = None,
    name: NameOption = None,
    seed: SeedOption = None,
    images: ImagesOption = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pre-train the whole detector on all training tiles without labels. The same command after a crash goes on."""
    from engine.stages.pretrain import PretrainConfig

    options = {"start": start, "name": name, "schedule.seed": seed, "schedule.images_seen": images}
    chosen = configured(PretrainConfig, config, settings, beneath=_sized(preset) | _learning(preset, start), **options)
    run_stage("pretrain", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def finetune(
    *,
    start: StartOption = None,
    preset: PresetOption = None,
    name: NameOption = None,
    seed: SeedOption = None,
    images: ImagesOption = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a detector on the tiles that annotators have looked at. The same command after a crash goes on."""
    from engine.stages.finetune import FinetuneConfig

    options = {"start": start, "name": name, "schedule.seed": seed, "schedule.images_seen": images}
    chosen = configured(FinetuneConfig, config, settings, beneath=_sized(preset), **options)
    run_stage("finetune", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def one_shot(
    *,
    start: StartOption = None,
    preset: PresetOption = None,
    name: NameOption = None,
    seed: SeedOption = None,
    images: ImagesOption = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a detector that finds what one drawn box shows, for search. The same command after a crash goes on."""
    from engine.stages.one_shot import OneShotTrainingConfig

    options = {"start": start, "name": name, "schedule.seed": seed, "schedule.images_seen": images}
    chosen = configured(OneShotTrainingConfig, config, settings, beneath=_sized(preset), **options)
    run_stage("one-shot", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def predict(
    *,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model; else the newest.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Whose tiles: train, dev, test or all.", show_default=False)] = None,
    name: NameOption = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a model over the tiles: boxes with scores, and an embedding of each tile, for ranking and evaluation."""
    from engine.stages.predict import PredictConfig

    chosen = configured(PredictConfig, config, settings, model=model, split=split, name=name)
    run_stage("predict", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)
