"""Where evaluations are kept: one report and a folder of pictures for a prediction set on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.catalog.schema import ModelRow
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import inside

__all__ = ["evaluation_file", "evaluation_pictures", "stored_evaluation", "stored_pictures"]


def evaluation_file(workspace: Workspace, predictions: str, split: str) -> Path:
    """The report on the prediction set; it need not exist yet."""
    return inside(workspace.reports, f"evaluation-{predictions}-{split}.json")


def evaluation_pictures(workspace: Workspace, predictions: str, split: str) -> Path:
    """The folder of its pictures; it need not exist yet."""
    return inside(workspace.reports, f"evaluation-{predictions}-{split}")


def stored_evaluation(workspace: Workspace, model: ModelRow, split: str) -> dict[str, Any] | None:
    """The report of the last evaluation of ``model`` on ``split``; None where there is none, or none with more than the averages.

    Raises:
        BadInput: the report was damaged since.
    """
    predictions = model.metrics.get(split, {}).get("predictions")
    file = None if predictions is None else evaluation_file(workspace, predictions, split)
    if file is None or not file.is_file():
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as damaged:
        raise BadInput(
            f"{file} cannot be read: {damaged}", remedy=f"Run `tilehawk evaluate --split {split} --model {model.name}` again"
        ) from damaged
    return dict(document)


def stored_pictures(workspace: Workspace, model: ModelRow, split: str) -> dict[str, Path]:
    """The pictures of that evaluation by their names, without endings."""
    predictions = model.metrics.get(split, {}).get("predictions")
    if predictions is None:
        return {}
    return {file.stem: file for file in sorted(evaluation_pictures(workspace, predictions, split).glob("*.png"))}
