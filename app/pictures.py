"""Pictures of a workspace for the page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.catalog.summary import RoundSummary
from engine.evaluation.drawing import CurvePoint, learning_curve

__all__ = ["curve_png", "curve_points"]


def curve_points(rounds: Sequence[RoundSummary]) -> list[CurvePoint]:
    """A point for every round that has been evaluated; seconds add up, measured where known."""
    points: list[CurvePoint] = []
    seconds = 0.0
    for each in rounds:
        seconds += each.estimated_seconds if each.measured_seconds is None else each.measured_seconds
        if each.metrics:
            points.append(CurvePoint(seconds / 60, each.metrics["ap"], each.metrics["ap50"]))
    return points


def curve_png(points: Sequence[CurvePoint]) -> bytes:
    """The learning curve as the bytes of a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curve.png"
        learning_curve(points, path)
        return path.read_bytes()
