"""Strategies side by side as pictures: their learning curves, and what single seeds make of each round."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.files import write_bytes
from engine.simulation.comparison import Comparison
from engine.simulation.curves import Curve, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_comparison", "draw_seeds", "shown_range"]

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
SHOWN_AS: dict[Unit, tuple[str, float]] = {"seconds": ("hours", 3600.0), "boxes": ("boxes", 1.0), "tiles": ("tiles", 1.0)}
"""What is written at an axis, and how much of the unit that is."""
TOGETHER = 0.8
"""Share of a round's width that its boxes take."""
ROOM = 0.5
"""Above and below the curves, in parts of what they span."""
LEAST_SPAN = 0.1


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Write AP50 over what budgets were counted in: the mean of each strategy, its 95 % interval, and what all labels give."""
    figure, axes = _canvas()
    axis = comparison.axes[comparison.unit]
    named, unit = SHOWN_AS[comparison.unit]
    amounts = np.asarray(axis.grid) / unit
    for name, mean in axis.mean.items():
        colour = COLOURS.get(name, OTHER)
        values = np.asarray([np.nan if value is None else value for value in mean])
        needed = "not reached" if (spent := axis.to_target[name]) is None else f"{spent / unit:.3g} {named}"
        axes.plot(amounts, values, color=colour, label=f"{name} ({needed})", linewidth=2 if name == "tilehawk" else 1.4)
        low, high = np.asarray([(np.nan, np.nan) if band is None else band for band in axis.interval[name]]).T
        axes.fill_between(amounts, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(comparison.target, color=COLOURS["random"], linewidth=0.8, linestyle=":")
    if comparison.full_ap50 is not None:
        axes.axhline(comparison.full_ap50, color=OTHER, linewidth=0.8, linestyle="--")
        axes.annotate("all labels", (amounts[-1], comparison.full_ap50), ha="right", va="bottom", color=OTHER)
    axes.set(xlabel="hours of an annotator" if named == "hours" else named, ylabel="AP50", ylim=shown_range(comparison))
    axes.legend(title=f"strategy ({named} to the control's end)", fontsize=8, title_fontsize=8, loc="lower right")
    _write(figure, path)


def shown_range(comparison: Comparison) -> tuple[float, float]:
    """The AP50 that is in sight: the curves with room around them, within [0, 1]. Intervals of few seeds reach far beyond either."""
    means = [value for mean in comparison.axes[comparison.unit].mean.values() for value in mean if value is not None]
    shown = [*means, comparison.target, *([] if comparison.full_ap50 is None else [comparison.full_ap50])]
    room = ROOM * max(max(shown) - min(shown), LEAST_SPAN)
    return max(0.0, min(shown) - room), min(1.0, max(shown) + room)


def draw_seeds(curves: Sequence[Curve], path: Path) -> None:
    """Write a box plot over seeds: the AP50 after each round, a box a strategy; a round that not all seeds have has those that do."""
    figure, axes = _canvas()
    names = list(dict.fromkeys(curve.strategy for curve in curves))
    width = TOGETHER / len(names)
    for place, name in enumerate(names):
        runs = [curve.ap50 for curve in curves if curve.strategy == name]
        rounds = range(max(len(run) for run in runs))
        boxes = axes.boxplot(
            [[run[number] for run in runs if number < len(run)] for number in rounds],
            positions=[number + (place + 0.5) * width - TOGETHER / 2 for number in rounds],
            widths=0.8 * width,
            patch_artist=True,
            medianprops={"color": "black"},
            label=f"{name} ({len(runs)} {'seed' if len(runs) == 1 else 'seeds'})",
        )
        for box in boxes["boxes"]:
            box.set(facecolor=COLOURS.get(name, OTHER), alpha=0.6)
    most = max(len(curve.ap50) for curve in curves)
    axes.set_xticks(range(most), [str(number) for number in range(most)])
    axes.set(xlabel="round", ylabel="AP50")
    axes.legend(fontsize=8, loc="lower right")
    _write(figure, path)


def _canvas() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    return figure, axes


def _write(figure: Figure, path: Path) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_bytes(path, stream.getvalue())
