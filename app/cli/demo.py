"""The command that shows it all: demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, SetOption, configured
from app.cli.output import emit
from app.cli.progress import job

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(demo)


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo-output"),
    minutes: Annotated[float | None, typer.Option(help="Annotator minutes a round.", show_default=False)] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on real imagery of tree crowns: ingest, pre-train, three rounds, export, detect, GIS layer, pictures."""
    from app.workflows.demo import DemoConfig, run_demo

    chosen = configured(DemoConfig, config, settings, minutes=minutes)
    answer = sys.stdout

    def say(line: str) -> None:
        if not as_json:
            answer.write(line + "\n")
            answer.flush()

    with job() as progress:
        report = run_demo(out, chosen, say=say, progress=progress)
    if as_json:
        emit(report, as_json=True)
    else:
        say(f"Next: {report.next}")
