"""What training runs left for people: the log of every step, and pictures on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.catalog.workspace import Workspace
from engine.training.journal import LOG_NAME, read_log

__all__ = ["PICTURES", "LoggedRun", "LossCurve", "logged_runs"]

PICTURES = "pictures"
"""The folder of a run's pictures, in that of its log."""


@dataclass(frozen=True)
class LossCurve:
    """A number of a run over the images that it had seen; steps that lack it are left out."""

    images_seen: list[int]
    values: list[float]


@dataclass(frozen=True)
class LoggedRun:
    """A run that has a log, finished or not."""

    name: str
    """Its stage and fingerprint, which no other run has."""
    folder: Path

    @property
    def pictures(self) -> dict[str, Path]:
        """By name without ending, such as ``encoder-00001200``, the earliest first of each kind."""
        return {file.stem: file for file in sorted((self.folder / PICTURES).glob("*.png"))}

    def curves(self) -> dict[str, LossCurve]:
        """``loss``, the loss of every task that is learned beside others, and ``dev_ap`` where it was looked at."""
        rows = read_log(self.folder / LOG_NAME)
        wanted = ["loss", "dev_ap", *(name for name in (rows[-1] if rows else {}) if name.startswith("loss."))]
        curves = {}
        for name in wanted:
            known = [(int(row["images_seen"]), float(row[name])) for row in rows if row.get(name)]
            if known:
                curves[name] = LossCurve([seen for seen, _ in known], [value for _, value in known])
        return curves


def logged_runs(workspace: Workspace) -> list[LoggedRun]:
    """Every run of the workspace that has a log, the one that wrote last first."""
    logs = sorted((workspace.reports / "training").glob(f"*/{LOG_NAME}"), key=lambda log: (log.stat().st_mtime_ns, log.parent.name))
    return [LoggedRun(log.parent.name, log.parent) for log in reversed(logs)]
