"""The learning curves of strategies side by side, as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from engine.files import write_bytes
from engine.simulation.curves import Comparison

__all__ = ["draw_comparison"]

COLOURS = {
    "tilehawk": "#1b6ca8",
    "random": "#333333",
    "k-center": "#d1495b",
    "typiclust": "#8d6a9f",
    "prob-cover": "#5b8e7d",
    "entropy-mean": "#edae49",
    "ppal": "#66a182",
}
OTHER = "#999999"


def draw_comparison(comparison: Comparison, path: Path, *, full_ap50: float | None = None) -> None:
    """Write AP50 over an annotator's hours: the mean of each strategy, its 95 % interval, and what all labels give."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    hours = np.asarray(comparison.grid) / 3600
    for name, mean in comparison.mean.items():
        colour = COLOURS.get(name, OTHER)
        values = np.asarray([np.nan if value is None else value for value in mean])
        axes.plot(hours, values, color=colour, label=f"{name} ({_needed(comparison, name)})", linewidth=2 if name == "tilehawk" else 1.4)
        low, high = np.asarray([(np.nan, np.nan) if band is None else band for band in comparison.interval[name]]).T
        axes.fill_between(hours, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(comparison.target, color=COLOURS["random"], linewidth=0.8, linestyle=":")
    if full_ap50 is not None:
        axes.axhline(full_ap50, color=OTHER, linewidth=0.8, linestyle="--")
        axes.annotate("all labels", (hours[-1], full_ap50), ha="right", va="bottom", color=OTHER)
    axes.set(xlabel="hours of an annotator", ylabel="AP50")
    axes.grid(alpha=0.25)
    axes.legend(title="strategy (hours to the control's end)", fontsize=8, title_fontsize=8, loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_bytes(path, stream.getvalue())


def _needed(comparison: Comparison, name: str) -> str:
    seconds = comparison.to_target[name]
    return "not reached" if seconds is None else f"{seconds / 3600:.2f} h"
