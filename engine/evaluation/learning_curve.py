"""The learning curve with its forecast: what was measured, what is expected, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.plots import ACCENT, INK, SECOND, save_figure

__all__ = ["ForecastCurve", "write_learning_curve"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ForecastCurve:
    """What is drawn.

    ``measured_boxes`` (N,) and ``measured_ap50`` (N,) are the points, ``errors`` (N,) their standard errors; ``boxes`` (m,) ascending with
    ``low``, ``middle`` and ``high`` (m,) the forecast, of which ``interval`` says how probable it is. ``boxes_now`` are annotated,
    ``boxes_then`` when the budget is spent. A box takes ``hours_per_box`` and an hour costs ``hourly_rate`` of ``currency``.
    """

    measured_boxes: Floats
    measured_ap50: Floats
    errors: Floats
    boxes: Floats
    low: Floats
    middle: Floats
    high: Floats
    interval: float
    boxes_now: float
    boxes_then: float
    hours_per_box: float
    hourly_rate: float
    currency: str


def write_learning_curve(curve: ForecastCurve, path: Path) -> None:
    """Write AP50 over annotated boxes to ``path`` as PNG, atomically; the axis above says hours and money from today on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        curve.boxes, curve.low, curve.high, color=ACCENT, alpha=0.2, linewidth=0, label=f"with a probability of {curve.interval:.0%}"
    )
    axes.plot(curve.boxes, curve.middle, color=ACCENT, label="expected")
    axes.errorbar(curve.measured_boxes, curve.measured_ap50, yerr=curve.errors, fmt="o", color=INK, capsize=2, label="measured")
    axes.axvline(curve.boxes_now, color=INK, linestyle=":", label="today")
    axes.axvline(curve.boxes_then, color=SECOND, linestyle="--", label="the budget spent")
    axes.set(xlabel="annotated boxes", ylabel="AP50", ylim=(0, 1), xlim=(0, curve.boxes[-1]))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    _add_budget_axis(curve, axes)
    save_figure(figure, path)


def _add_budget_axis(curve: ForecastCurve, axes: Any) -> None:
    """Hours and money from today on, above the picture; to the left of today there is no label."""

    def hours(boxes: Floats) -> Floats:
        return (np.asarray(boxes) - curve.boxes_now) * curve.hours_per_box

    def boxes(spent: Floats) -> Floats:
        return np.asarray(spent) / curve.hours_per_box + curve.boxes_now

    above = axes.secondary_xaxis("top", functions=(hours, boxes))
    above.set_xlabel("to be spent from today on")
    above.xaxis.set_major_formatter(_said(curve))


def _said(curve: ForecastCurve) -> Callable[[float, int], str]:
    currency = curve.currency.replace("$", r"\$")

    def label(spent: float, _position: int) -> str:
        return "" if spent < 0 else f"{spent:,.4g} h\n{spent * curve.hourly_rate:,.0f} {currency}"

    return label
