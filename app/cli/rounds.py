"""Commands of a round: rank, oracle, evaluate."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, SetOption, WorkspaceOption, configured
from app.cli.stage import run_stage
from engine.errors import UsageError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(rank)
    app.command()(oracle)
    app.command()(evaluate)


def rank(
    *,
    budget_minutes: Annotated[float | None, typer.Option(help="Annotator minutes that the round may cost.", show_default=False)] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="The same in seconds.", show_default=False)] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How tiles are chosen: tilehawk, entropy, k-center or random.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides what chance decides.", show_default=False)] = None,
    predictions: Annotated[str | None, typer.Option(metavar="NAME", help="The prediction set to choose by.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the tiles worth the next minutes of an annotator, each with its reason, and open a round."""
    from engine.stages.rank import RankConfig
    from engine.stages.rank import rank as stage

    if budget_minutes is not None:
        if budget_seconds is not None:
            raise UsageError("--budget-minutes and --budget-seconds", expected="one of them", remedy="Leave one of them out")
        budget_seconds = 60 * budget_minutes
    chosen = configured(RankConfig, config, settings, budget_seconds=budget_seconds, strategy=strategy, seed=seed, predictions=predictions)
    run_stage(stage, chosen, workspace=workspace, as_json=as_json)


def oracle(
    *,
    number: Annotated[int | None, typer.Option("--round", help="The round; else the newest.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the withheld labels stand in for an annotator: visit the round's tiles and charge for the work."""
    from engine.stages.oracle import OracleConfig
    from engine.stages.oracle import consult_oracle as stage

    run_stage(stage, configured(OracleConfig, config, settings, round=number), workspace=workspace, as_json=as_json)


def evaluate(
    *,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The fine-tuned model; else the newest.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="The ground to measure on: test, dev or train.", show_default=False)] = None,
    predictions: Annotated[str | None, typer.Option(metavar="NAME", help="A prediction set of that model.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model's predictions by COCO's metrics on reviewed tiles of held-out ground."""
    from engine.stages.evaluate import EvaluateConfig
    from engine.stages.evaluate import evaluate as stage

    chosen = configured(EvaluateConfig, config, settings, model=model, split=split, predictions=predictions)
    run_stage(stage, chosen, workspace=workspace, as_json=as_json)
