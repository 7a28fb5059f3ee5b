"""A picture of what work was expected to take, and did take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.plots import ACCENT, INK, SECOND, save_figure

__all__ = ["CostPicture", "write_cost_picture"]

Floats = NDArray[np.float64]
ROOM = 1.3
"""The axes reach so many times beyond the least and the largest seconds."""


@dataclass(frozen=True, eq=False)
class CostPicture:
    """What is drawn, all seconds above 0.

    Of N tiles the P50 that was foretold, ``tile_p50`` (N,), and ``tile_measured`` (N,); of R rounds ``rounds`` (R,) their numbers,
    ``round_p50``, ``round_p90`` and ``round_measured`` (R,).
    """

    tile_p50: Floats
    tile_measured: Floats
    rounds: NDArray[np.int64]
    round_p50: Floats
    round_p90: Floats
    round_measured: Floats


def write_cost_picture(picture: CostPicture, path: Path) -> None:
    """Write foretold against measured seconds, of tiles on the left and of rounds on the right, to ``path`` as PNG, atomically."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    _diagonal(left, picture.tile_p50, picture.tile_measured)
    left.scatter(picture.tile_p50, picture.tile_measured, s=9, color=ACCENT, alpha=0.5, linewidths=0, label="a tile")
    left.set(title=f"{len(picture.tile_p50)} tiles", xlabel="foretold P50, seconds", ylabel="measured, seconds")
    _diagonal(right, np.concatenate([picture.round_p50, picture.round_p90]), picture.round_measured)
    up_to = np.stack([np.zeros_like(picture.round_p50), picture.round_p90 - picture.round_p50])
    right.errorbar(picture.round_p50, picture.round_measured, xerr=up_to, fmt="o", color=ACCENT, ecolor=INK, capsize=3, label="a round")
    for number, x, y in zip(picture.rounds.tolist(), picture.round_p50, picture.round_measured, strict=True):
        right.annotate(str(number), (x, y), xytext=(5, 5), textcoords="offset points", fontsize="small", color=INK)
    right.set(title=f"{len(picture.rounds)} rounds", xlabel="foretold P50, whisker to P90, seconds", ylabel="measured, seconds")
    for axes in (left, right):
        axes.legend(loc="upper left", fontsize="small")
    save_figure(figure, path)


def _diagonal(axes: Any, foretold: Floats, measured: Floats) -> None:
    """Two equal axes, logarithmic, and the line on which both agree."""
    from matplotlib.ticker import LogLocator, NullFormatter

    both = np.concatenate([foretold, measured])
    ends = (float(both.min()) / ROOM, float(both.max()) * ROOM)
    axes.plot(ends, ends, color=SECOND, linestyle="--", label="as foretold")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
