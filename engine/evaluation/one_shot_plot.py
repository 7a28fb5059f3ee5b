"""Picture of a one-shot evaluation: each class, seen or unseen, and how much the crop matters."""

from __future__ import annotations

from pathlib import Path

from engine.evaluation.one_shot import OneShotMetrics
from engine.evaluation.plots import ACCENT, INK, SECOND, plain, save_figure

__all__ = ["CLASSES_PICTURE", "write_classes"]

CLASSES_PICTURE = "classes"
"""Name of the file, without its ending."""


def write_classes(metrics: OneShotMetrics, path: Path) -> None:
    """Write a bar for the AP50 of each class that was asked for, the best on top, with a dot for each round."""
    from matplotlib.figure import Figure

    shown = sorted((value, name) for name, value in metrics.ap50_per_class.items() if value is not None)
    figure = Figure(figsize=(6, 1.4 + 0.3 * len(shown)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for kind, colour, mean in (("seen", ACCENT, metrics.seen), ("unseen", SECOND, metrics.unseen)):
        rows = [(row, value) for row, (value, name) in enumerate(shown) if (name in metrics.unseen_classes) == (kind == "unseen")]
        if rows:
            axes.barh([row for row, _ in rows], [value for _, value in rows], color=colour, label=f"{mean:.2f}  {kind} classes")
    for row, (_, name) in enumerate(shown):
        rounds = metrics.rounds_per_class[name]
        axes.plot(rounds, [row] * len(rounds), ".", color=INK, markersize=4)
    axes.set(xlim=(0, 1), xlabel="AP50, and that of each round", yticks=range(len(shown)), yticklabels=[plain(name) for _, name in shown])
    axes.set_title("Found when asked by a crop")
    axes.legend(loc="lower right", fontsize="x-small")
    save_figure(figure, path)
