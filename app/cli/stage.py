"""Running a stage from the command line: workspace opened, progress shown, report written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.cli.output import emit
from app.cli.progress import job
from app.settings import find_workspace

__all__ = ["run_stage"]


def run_stage(verb: Callable[..., Any], *inputs: Any, workspace: Path | None, as_json: bool) -> None:
    """Run ``verb(workspace, *inputs, progress=…)`` on the workspace of this call and write its report to standard output."""
    from engine.catalog.workspace import Workspace

    with Workspace.open(find_workspace(workspace)) as opened, job() as progress:
        report = verb(opened, *inputs, progress=progress)
    emit(report, as_json=as_json)
