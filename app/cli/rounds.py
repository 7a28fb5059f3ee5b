"""Commands of a round: rank, oracle, costs, evaluate, and all of them as one: round, retrain."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.stage import run_flow, run_stage
from engine.errors import UsageError

__all__ = ["add_to"]

MinutesOption = Annotated[float | None, typer.Option(help="Annotator minutes that the round may cost.", show_default=False)]
SecondsOption = Annotated[float | None, typer.Option(help="The same in seconds.", show_default=False)]
MoneyOption = Annotated[float | None, typer.Option(help="The same in money, at hourly_rate.", show_default=False)]
StrategyOption = Annotated[
    str | None,
    typer.Option(help="How tiles are chosen: tilehawk, random, k-center, typiclust, prob-cover, ppal or entropy-mean.", show_default=False),
]
ChanceOption = Annotated[int | None, typer.Option(help="Decides what chance decides.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(rank)
    app.command()(oracle)
    app.command()(costs)
    app.command()(evaluate)
    app.command("round")(whole_round)
    app.command()(retrain)


def rank(
    *,
    budget_minutes: MinutesOption = None,
    budget_seconds: SecondsOption = None,
    budget_money: MoneyOption = None,
    strategy: StrategyOption = None,
    seed: ChanceOption = None,
    predictions: Annotated[str | None, typer.Option(metavar="NAME", help="The prediction set to choose by.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the tiles worth the next minutes of an annotator, each with its reason, and open a round."""
    from engine.stages.rank import RankConfig

    budget = _budget(budget_minutes, budget_seconds, budget_money)
    chosen = configured(RankConfig, config, settings, strategy=strategy, seed=seed, predictions=predictions, **budget)
    run_stage("rank", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def oracle(
    *,
    number: Annotated[int | None, typer.Option("--round", help="The round; else the newest.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let the withheld labels stand in for an annotator: visit the round's tiles and charge for the work."""
    from engine.stages.oracle import OracleConfig

    run_stage("oracle", configured(OracleConfig, config, settings, round=number), workspace=workspace, as_json=as_json, no_queue=no_queue)


def costs(
    *,
    hourly_rate: Annotated[float | None, typer.Option(help="What an annotator's hour costs.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold what rounds were expected to cost against what they did cost, and say the prices that measured visits give."""
    from engine.stages.costs import CostsConfig
    from engine.stages.costs import costs as hold_against

    chosen = configured(CostsConfig, config, settings, hourly_rate=hourly_rate)
    run_stage(hold_against, chosen, workspace=workspace, as_json=as_json)


def evaluate(
    *,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model, fine-tuned or one-shot; else the newest fine-tuned.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="The ground to measure on: test, dev or train.", show_default=False)] = None,
    predictions: Annotated[str | None, typer.Option(metavar="NAME", help="A prediction set of that model.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on reviewed tiles of held-out ground: COCO's metrics, curves, confusion, calibration, the worst tiles."""
    from engine.stages.evaluate import EvaluateConfig

    chosen = configured(EvaluateConfig, config, settings, model=model, split=split, predictions=predictions)
    run_stage("evaluate", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def whole_round(
    *,
    budget_minutes: MinutesOption = None,
    budget_seconds: SecondsOption = None,
    budget_money: MoneyOption = None,
    strategy: StrategyOption = None,
    seed: ChanceOption = None,
    annotate: Annotated[
        str | None, typer.Option(help="Who answers: oracle (then retrain), browser or label-studio.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Open a round as one job: predict, rank, and hand the tiles to those who annotate. After a crash the next worker goes on with it."""
    from app.workflows.rounds import RoundConfig

    budget = _budget(budget_minutes, budget_seconds, budget_money)
    chosen = configured(RoundConfig, config, settings, strategy=strategy, seed=seed, annotate=annotate, **budget)
    run_flow("round", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def retrain(
    *,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """As one job: take answers in, fine-tune on all that is reviewed, and measure on test ground. After a crash the next worker goes on."""
    from app.workflows.rounds import RetrainConfig

    run_flow("retrain", configured(RetrainConfig, config, settings), workspace=workspace, as_json=as_json, no_queue=no_queue)


def _budget(minutes: float | None, seconds: float | None, money: float | None) -> dict[str, Any]:
    """The one budget that was given, by its key.

    Raises:
        UsageError: more than one was given.
    """
    given = {"--budget-minutes": minutes, "--budget-seconds": seconds, "--budget-money": money}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(" and ".join(named), expected="one of them", remedy="Leave the others out")
    if money is not None:
        return {"budget_money": money}
    if minutes is not None:
        return {"budget_seconds": 60 * minutes}
    return {} if seconds is None else {"budget_seconds": seconds}
