"""What simulations left in a workspace: a folder each, with the replays and the picture of their curves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from engine.catalog.workspace import Workspace

__all__ = ["StoredSimulation", "stored_simulations"]

CURVES, SEEDS, COMPARISON = "curves.png", "seeds.png", "comparison.json"


@dataclass(frozen=True)
class StoredSimulation:
    """A simulation that came to its end, by the name of its folder below ``reports/simulations``."""

    folder: Path

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    @property
    def picture(self) -> Path:
        """The curves of its strategies."""
        return self.folder / CURVES

    @property
    def seeds_picture(self) -> Path:
        """Box plots of its strategies over seeds; not there for simulations of before."""
        return self.folder / SEEDS

    @property
    def caution(self) -> str | None:
        """What has to be said of the tiles that were replayed; None for nothing, or where nobody counted."""
        file = self.folder / COMPARISON
        said: str | None = json.loads(file.read_text(encoding="utf-8")).get("caution") if file.exists() else None
        return said


def stored_simulations(workspace: Workspace) -> list[StoredSimulation]:
    """The simulations with curves, the one that was drawn last first."""
    drawn = sorted((workspace.reports / "simulations").glob(f"*/{CURVES}"), key=lambda path: (-path.stat().st_mtime_ns, path.parent.name))
    return [StoredSimulation(path.parent) for path in drawn]
