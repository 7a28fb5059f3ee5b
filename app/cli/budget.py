"""Commands about the budget: forecast, simulate, audit."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.stage import run_stage

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.command()(forecast)
    app.command()(simulate)
    app.command()(audit)


def forecast(
    *,
    budget_money: Annotated[float | None, typer.Option(help="Money to spend on annotators, at hourly_rate.", show_default=False)] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="The same in seconds of an annotator.", show_default=False)] = None,
    split: Annotated[
        str | None, typer.Option(help="The ground on which models were measured: test or dev; else the one with more.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a budget buys: tiles, boxes, hours, the AP50 to be expected with its interval, what the next money adds, when to stop."""
    from engine.stages.forecast import ForecastConfig
    from engine.stages.forecast import forecast as run_forecast

    chosen = configured(ForecastConfig, config, settings, budget_money=budget_money, budget_seconds=budget_seconds, split=split)
    run_stage(run_forecast, chosen, workspace=workspace, as_json=as_json)


def simulate(
    *,
    strategies: Annotated[
        str | None, typer.Option(help="Strategies with commas between them, beside the control.", show_default=False)
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds with commas between them.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Replay budgets on the labels that are there: which strategy fits this imagery, and how much time it saves against chance."""
    from engine.stages.simulate import SimulateConfig

    given: dict[str, Any] = {"strategies": strategies and strategies.split(","), "seeds": seeds and seeds.split(",")}
    run_stage("simulate", configured(SimulateConfig, config, settings, **given), workspace=workspace, as_json=as_json, no_queue=no_queue)


def audit(
    *,
    budget_seconds: Annotated[float | None, typer.Option(help="Seconds that looking again may cost.", show_default=False)] = None,
    predictions: Annotated[str | None, typer.Option(metavar="NAME", help="The detector's prediction set.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send labels that the detector confidently disagrees with back to a person, for a small share of the budget."""
    from engine.stages.audit import AuditConfig

    chosen = configured(AuditConfig, config, settings, budget_seconds=budget_seconds, predictions=predictions)
    run_stage("audit", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)
