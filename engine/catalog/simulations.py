"""What simulations left in a workspace: a folder each, with the replays and the picture of their curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.catalog.workspace import Workspace

__all__ = ["StoredSimulation", "stored_simulations"]

CURVES = "curves.png"


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


def stored_simulations(workspace: Workspace) -> list[StoredSimulation]:
    """The simulations with curves, the one that was drawn last first."""
    drawn = sorted((workspace.reports / "simulations").glob(f"*/{CURVES}"), key=lambda path: (-path.stat().st_mtime_ns, path.parent.name))
    return [StoredSimulation(path.parent) for path in drawn]
