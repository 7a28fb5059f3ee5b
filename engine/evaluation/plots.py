"""Pictures of an analysis: curves, confusion, reliability, the worst tiles. Every file is written atomically."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from engine.boxes import Boxes
from engine.evaluation.analysis import Analysis
from engine.evaluation.curves import RECALLS
from engine.evaluation.drawing import Pixels, contact_sheet, draw_boxes, write_png
from engine.evaluation.worst import TileErrors
from engine.files import write_bytes
from engine.label_set import LabelSet

__all__ = [
    "ACCENT",
    "DIAGRAMS",
    "INK",
    "SECOND",
    "WORST_SHEET",
    "TileView",
    "plain",
    "save_figure",
    "worst_name",
    "write_diagrams",
    "write_worst_tiles",
]

INK, ACCENT, SECOND = "#333333", "#1b6ca8", "#d1495b"
CLASSES_NAMED = 15
"""More curves or names than this cannot be told apart."""
WORST_SHEET = "worst-tiles"
SHARP_WIDTH, LARGEST_SCALE = 640, 4
"""Small tiles are enlarged, by at most so much, to about this width."""


@dataclass(frozen=True)
class TileView:
    """A tile to be drawn: RGB pixels (H, W, 3), its true boxes, and those predictions that count, in its pixels."""

    errors: TileErrors
    pixels: Pixels
    true: Boxes
    predicted: Boxes


def write_diagrams(analysis: Analysis, folder: Path) -> list[Path]:
    """Write every diagram of ``DIAGRAMS`` to ``folder`` as ``NAME.png``; returns the files."""
    from matplotlib.figure import Figure

    files = []
    for name, draw in DIAGRAMS.items():
        figure = Figure(figsize=(6, 4.8), dpi=120, layout="constrained")
        draw(analysis, figure.add_subplot())
        files.append(folder / f"{name}.png")
        save_figure(figure, files[-1])
    return files


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib as PNG, atomically; a letter that the font lacks is no reason to fail."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format="png")
    write_bytes(path, stream.getvalue())


def worst_name(place: int) -> str:
    """File name, without its ending, of the tile at ``place`` (from 1) among the worst."""
    return f"worst-{place:02}"


def write_worst_tiles(views: Sequence[TileView], folder: Path, label_set: LabelSet) -> list[Path]:
    """Write each tile (predictions in the colour of their class, true boxes dashed) and a sheet of all to ``folder``; returns the files."""
    pictures = []
    for view in views:
        scale = max(1, min(LARGEST_SCALE, SHARP_WIDTH // view.pixels.shape[1]))
        drawn = draw_boxes(view.pixels, view.predicted, view.true, label_set=label_set, scale=scale)
        errors = view.errors
        caption = f"tile {errors.tile}: {errors.found} found, {errors.missed} missed, {errors.false} false, F1 {errors.f1:.2f}"
        pictures.append((caption, drawn))
    files = [folder / f"{worst_name(place)}.png" for place in range(1, len(pictures) + 1)]
    for file, (_, drawn) in zip(files, pictures, strict=True):
        write_png(file, drawn)
    if pictures:
        files.append(folder / f"{WORST_SHEET}.png")
        contact_sheet(pictures, files[-1])
    return files


def _precision_recall(analysis: Analysis, axes: Any) -> None:
    shown = {name: curve for name, curve in analysis.curves.items() if curve.precision is not None}
    for name, curve in shown.items():
        label = f"{curve.average_precision:.2f}  {plain(name)}" if len(shown) <= CLASSES_NAMED else None
        axes.plot(RECALLS, curve.precision, linewidth=1, alpha=0.8, label=label)
    together = analysis.curve_of_all
    axes.plot(RECALLS, together.precision, color=INK, linewidth=2.4, label=f"{together.average_precision:.2f}  all boxes")
    axes.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"Precision and recall at IoU {analysis.iou_threshold:g}"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="x-small", title="average precision", title_fontsize="x-small")


def _thresholds(analysis: Analysis, axes: Any) -> None:
    scores = [point.threshold for point in analysis.thresholds]
    for name, colour in (("precision", SECOND), ("recall", ACCENT), ("f1", INK)):
        values = [getattr(point, name) for point in analysis.thresholds]
        axes.plot(scores, [np.nan if value is None else value for value in values], color=colour, label="F1" if name == "f1" else name)
    best, chosen = analysis.best, analysis.point
    axes.axvline(best.threshold, color=INK, linestyle=":", label=f"best F1 {best.f1:.2f} at {best.threshold:.2f}")
    if chosen.threshold != best.threshold:
        axes.axvline(chosen.threshold, color=ACCENT, linestyle="--", label=f"used: {chosen.threshold:.2f}, F1 {chosen.f1:.2f}")
    axes.set(xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.02), title="What a threshold gives")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _confusion(analysis: Analysis, axes: Any) -> None:
    names = [*map(plain, analysis.curves), "background"]
    counts = np.array(analysis.confusion)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=f"Taken for what, at a score of {analysis.point.threshold:.2f}", xlabel="predicted", ylabel="true")
    if len(names) > CLASSES_NAMED + 1:
        return
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="x-small")
    axes.set_yticks(range(len(names)), names, fontsize="x-small")
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize="x-small", color=colour)


def _reliability(analysis: Analysis, axes: Any) -> None:
    found = analysis.reliability
    for each in found.bins:
        if each.precision is not None:
            axes.bar((each.low + each.high) / 2, each.precision, width=each.high - each.low, color=ACCENT, edgecolor="white")
            axes.annotate(
                str(each.predictions), ((each.low + each.high) / 2, each.precision), ha="center", va="bottom", fontsize="x-small", color=INK
            )
    axes.plot([0, 1], [0, 1], color=SECOND, linestyle="--", label="a score is the share that is right")
    error = "nothing predicted" if found.expected_error is None else f"expected calibration error {found.expected_error:.3f}"
    axes.set(
        xlabel=f"score, from {found.floor:g}", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.06), title=f"Calibration: {error}"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")


def plain(name: str) -> str:
    """A class name that is no formula to matplotlib."""
    return name.replace("$", r"\$")


DIAGRAMS: Mapping[str, Callable[[Analysis, Any], None]] = MappingProxyType(
    {"precision-recall": _precision_recall, "thresholds": _thresholds, "confusion": _confusion, "calibration": _reliability}
)
"""Name → what draws it on empty axes."""
