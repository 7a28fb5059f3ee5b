"""Pictures for people: the learning curve of a budget."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from engine.catalog.summary import RoundSummary

__all__ = ["CurvePoint", "curve_points", "learning_curve"]


@dataclass(frozen=True)
class CurvePoint:
    """What the annotators had spent in all, in minutes, and how good the detector was then (both in [0, 1])."""

    minutes: float
    ap: float
    ap50: float


def curve_points(rounds: Sequence[RoundSummary]) -> list[CurvePoint]:
    """A point for every round that has been evaluated (metrics ``ap`` and ``ap50``); seconds add up, measured where known."""
    points: list[CurvePoint] = []
    seconds = 0.0
    for each in rounds:
        seconds += each.estimated_seconds if each.measured_seconds is None else each.measured_seconds
        if "ap" in each.metrics and "ap50" in each.metrics:
            points.append(CurvePoint(seconds / 60, float(each.metrics["ap"]), float(each.metrics["ap50"])))
    return points


def learning_curve(points: Sequence[CurvePoint]) -> bytes:
    """A PNG of AP and AP50 over annotator minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    minutes = [point.minutes for point in points]
    axes.plot(minutes, [point.ap50 for point in points], marker="o", label="AP50")
    axes.plot(minutes, [point.ap for point in points], marker="s", label="AP")
    axes.set_xlabel("annotator minutes, all rounds")
    axes.set_ylabel("average precision")
    axes.set_xlim(left=0)
    axes.set_ylim(0, max(0.1, 1.15 * max(point.ap50 for point in points)))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
