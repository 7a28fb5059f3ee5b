"""Pictures of results: boxes over pixels, a sheet of detections, a learning curve. Every file is written atomically."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.boxes import Boxes
from engine.errors import UsageError
from engine.files import write_bytes
from engine.label_set import LabelSet

__all__ = ["CurvePoint", "close_up", "contact_sheet", "draw_boxes", "learning_curve", "training_curves", "write_png"]

Pixels = NDArray[np.uint8]
RUN_COLOURS = ("#1b6ca8", "#d95f02", "#1b9e77", "#7570b3")

PALETTE = ((255, 214, 10), (76, 201, 240), (247, 37, 133), (6, 214, 160), (255, 127, 17), (181, 137, 255), (163, 230, 53), (255, 255, 255))
"""Colours of the classes, in turn; apart from one another for colour-blind readers too, and from vegetation."""
TRUTH_COLOUR, TRUTH_GAP = (255, 255, 255), (0, 0, 0)
SMALLEST_VIEW = 32.0
"""Pixels of the image that a close-up shows at least."""
GAP, CAPTION_HEIGHT, BACKGROUND, INK = 8, 18, (24, 26, 30), (235, 235, 235)


@dataclass(frozen=True)
class CurvePoint:
    """Quality after a round: annotator minutes spent so far, AP and AP50 in [0, 1]."""

    minutes: float
    ap: float
    ap50: float


def png_bytes(image: Pixels) -> bytes:
    """RGB ``image`` (H, W, 3) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(_rgb(image)).save(stream, format="PNG")
    return stream.getvalue()


def write_png(path: Path, image: Pixels) -> None:
    """Write RGB ``image`` (H, W, 3) to ``path`` as PNG, atomically."""
    write_bytes(path, png_bytes(image))


def draw_boxes(
    image: Pixels, predicted: Boxes, truth: Boxes | None = None, *, label_set: LabelSet | None = None, width: int = 2, scale: int = 1
) -> Pixels:
    """Draw boxes over a copy of ``image``.

    Args:
        image: RGB (H, W, 3).
        predicted: in the image's pixels, in a colour of their class, with name and score where ``label_set`` is given; the weakest first.
        truth: in thin dashes of white and black, under the predictions.
        label_set: names for the captions; None leaves the captions out.
        width: of a line, in pixels of the result.
        scale: every pixel of ``image`` becomes ``scale`` × ``scale`` pixels first, so that small objects can be seen.

    Returns:
        RGB (scale · H, scale · W, 3).

    Raises:
        UsageError: ``image`` is not RGB of 8 bits, or ``width`` or ``scale`` is below 1.
    """
    if min(width, scale) < 1:
        raise UsageError(f"width = {width}, scale = {scale}", expected="at least 1")
    canvas = Image.fromarray(_rgb(image).repeat(scale, axis=0).repeat(scale, axis=1))
    pen = ImageDraw.Draw(canvas)
    if truth is not None:
        for box in truth.xyxy * scale:
            _dashed(pen, _corners(box))
    order = np.arange(len(predicted)) if predicted.scores is None else np.argsort(predicted.scores, kind="stable")
    for row in order:
        colour = PALETTE[int(predicted.labels[row]) % len(PALETTE)]
        left, top, right, bottom = _corners(predicted.xyxy[row] * scale)
        pen.rectangle((left, top, right, bottom), outline=colour, width=width)
        if label_set is not None:
            score = "" if predicted.scores is None else f" {predicted.scores[row]:.2f}"
            _caption(pen, (left, top), label_set.names[int(predicted.labels[row])] + score, colour)
    return np.asarray(canvas)


def close_up(image: Pixels, box: Sequence[float], *, side: int, colour: tuple[int, int, int] = PALETTE[0]) -> Pixels:
    """A box and as much around it again, enlarged.

    Args:
        image: RGB (H, W, 3).
        box: (x1, y1, x2, y2) in its pixels.
        side: of the result in pixels.
        colour: of the frame.

    Returns:
        RGB (side, side, 3); black where the image ends.
    """
    x1, y1, x2, y2 = box
    shown = max(2 * (x2 - x1), 2 * (y2 - y1), SMALLEST_VIEW)
    left, top = (x1 + x2 - shown) / 2, (y1 + y2 - shown) / 2
    scale = side / shown
    view = Image.fromarray(_rgb(image)).transform(
        (side, side), Image.Transform.AFFINE, (1 / scale, 0, left, 0, 1 / scale, top), resample=Image.Resampling.BILINEAR
    )
    frame = [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale]
    ImageDraw.Draw(view).rectangle(frame, outline=colour, width=2)
    return np.asarray(view)


def contact_sheet(pictures: Sequence[tuple[str, Pixels]], path: Path, *, columns: int = 4, cell: int = 320) -> None:
    """Write a sheet of captioned pictures to ``path`` as PNG, row by row.

    Args:
        pictures: caption and RGB (H, W, 3) each; shrunk into a cell where it is larger, never enlarged.
        path: of the PNG.
        columns: pictures in a row.
        cell: side of a cell in pixels.

    Raises:
        UsageError: no pictures, or ``columns`` or ``cell`` below 1.
    """
    if not pictures or min(columns, cell) < 1:
        raise UsageError(f"a sheet of {len(pictures)} pictures in {columns} columns of {cell} px", expected="at least 1 of each")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    step = cell + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * (step + CAPTION_HEIGHT) + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (caption, picture) in enumerate(pictures):
        row, column = divmod(number, columns)
        left, top = GAP + column * step, GAP + row * (step + CAPTION_HEIGHT)
        thumbnail = Image.fromarray(_rgb(picture))
        thumbnail.thumbnail((cell, cell))
        sheet.paste(thumbnail, (left, top + CAPTION_HEIGHT))
        pen.text((left, top + 2), _fitted(pen, caption, cell), fill=INK, font=ImageFont.load_default(12))
    write_png(path, np.asarray(sheet))


def learning_curve(points: Sequence[CurvePoint], path: Path) -> None:
    """Write AP and AP50 over annotator minutes to ``path`` as PNG.

    Raises:
        UsageError: no points.
    """
    if not points:
        raise UsageError("a learning curve of no rounds", expected="at least one")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    minutes = [point.minutes for point in points]
    for name, values, colour in (
        ("AP50", [point.ap50 for point in points], "#1b6ca8"),
        ("AP", [point.ap for point in points], "#d1495b"),
    ):
        axes.plot(minutes, values, marker="o", color=colour, label=name)
        axes.annotate(f"{values[-1]:.2f}", (minutes[-1], values[-1]), textcoords="offset points", xytext=(7, -4), color=colour)
    axes.set(
        xlabel="annotator minutes",
        ylabel="on held-out ground",
        ylim=(0, None),
        xlim=(0, 1.08 * max(*minutes, 1)),
        title="What the budget bought",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_bytes(path, stream.getvalue())


def _rgb(image: Pixels) -> Pixels:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(f"an image {image.shape} of {image.dtype}", expected="(height, width, 3) of uint8")
    return image


def _corners(box: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """The outermost pixels of a box, right and bottom included."""
    left, top = math.floor(box[0]), math.floor(box[1])
    return left, top, max(left, math.ceil(box[2]) - 1), max(top, math.ceil(box[3]) - 1)


def _dashed(pen: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], dash: int = 4) -> None:
    left, top, right, bottom = corners
    pen.rectangle(corners, outline=TRUTH_GAP)
    for x in range(left, right + 1, 2 * dash):
        for y in (top, bottom):
            pen.line((x, y, min(x + dash - 1, right), y), fill=TRUTH_COLOUR)
    for y in range(top, bottom + 1, 2 * dash):
        for x in (left, right):
            pen.line((x, y, x, min(y + dash - 1, bottom)), fill=TRUTH_COLOUR)


def _caption(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, colour: tuple[int, int, int]) -> None:
    font = ImageFont.load_default(11)
    x, y = corner[0], max(0, corner[1] - 13)
    pen.rectangle(pen.textbbox((x + 1, y), text, font=font), fill=colour)
    pen.text((x + 1, y), text, fill=(0, 0, 0), font=font)


def _fitted(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    font = ImageFont.load_default(12)
    while text and pen.textlength(text, font=font) > width:
        text = text[:-2] + "…" if len(text) > 1 else ""
    return text


Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""(images seen, values) of a training run by name."""


def training_curves(runs: Mapping[str, Curves], path: Path) -> None:
    """Write numbers of training runs over the images seen to ``path`` as PNG, a small diagram each.

    Args:
        runs: curves by the name of their run; diagrams are those of the first. Every value is a faint dot, their running mean over a
            twentieth of the run a line, each run in a colour of its own.
        path: of the PNG.

    Raises:
        UsageError: the first run has no curves, or there is none.
    """
    names = list(next(iter(runs.values()), {}))
    if not names:
        raise UsageError("no numbers of a training run", expected="one curve at least")
    from matplotlib.figure import Figure

    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows), dpi=110, layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, number)
        for index, (run, curves) in enumerate(runs.items()):
            if name in curves:
                _smoothed(axes, *curves[name], RUN_COLOURS[index % len(RUN_COLOURS)], run)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if number > len(names) - columns:
            axes.set_xlabel("images seen", fontsize=8)
        if number == 1 and len(runs) > 1:
            axes.legend(fontsize=7)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_bytes(path, stream.getvalue())


def _smoothed(axes: Any, seen: Sequence[float], values: Sequence[float], colour: str, label: str) -> None:
    axes.plot(seen, values, ".", color=colour, alpha=0.15, markersize=3)
    width = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    axes.plot(seen[width - 1 :], (sums[width:] - sums[:-width]) / width, color=colour, label=label)
