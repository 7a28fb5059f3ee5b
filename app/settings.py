"""Where things are: the workspace of a call, found from an option, the environment or the current folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ENVIRONMENT", "find_workspace", "prepare_environment"]

ENVIRONMENT = {
    "TILEHAWK_WORKSPACE": "The workspace where `--workspace` is not given; else the current folder's nearest parent that is one.",
    "TILEHAWK_DATA": "A folder of real data for tests and benchmarks; those that need it are skipped where it is not set.",
}
"""The environment variables that Tilehawk reads, each with its meaning."""


def find_workspace(explicit: Path | None, *, environment: Mapping[str, str] = os.environ, current: Path | None = None) -> Path:
    """The folder that a call works on: ``explicit``, else ``TILEHAWK_WORKSPACE``, else the nearest parent that is a workspace.

    Without any of them the current folder itself, so that the error names a place the user knows.
    """
    from engine.catalog.workspace import MARKER

    if explicit is not None:
        return explicit
    if named := environment.get("TILEHAWK_WORKSPACE"):
        return Path(named)
    current = (current or Path.cwd()).resolve()
    for folder in (current, *current.parents):
        if (folder / MARKER).is_file():
            return folder
    return current


def prepare_environment() -> None:
    """Keep third-party libraries quiet and at home: no telemetry, no model hub. Called before they are imported.

    OpenMP threads that wait shall soon sleep: when they spin, they take the core from the thread they wait for as soon as another
    process wants one too, and training is ten times slower (docs/decisions/0007-waiting-threads-sleep.md).
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
