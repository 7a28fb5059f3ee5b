"""Tiles and boxes as the drawing component speaks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np
from gradio_image_annotation import image_annotator
from numpy.typing import NDArray
from PIL import Image

from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet
from engine.records import Window

__all__ = ["UNSURE", "boxes_drawn", "colours", "corners", "offered", "surface", "to_draw", "zoom_of"]

SMALLEST_SIDE = 2
SHOWN_PIXELS = 900
"""Tiles are shown enlarged by a whole factor, up to about this side: small objects are hard to hit otherwise."""
PALETTE = ((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230), (128, 128, 0))
UNSURE = (255, 225, 25)
"""A predicted box that nobody has accepted yet."""


def surface(*, single_box: bool, elem_id: str, labels: Sequence[str] = ()) -> Any:
    """A picture on which boxes are drawn, moved, relabelled and deleted.

    Listeners take its value with ``preprocess=False``: the component's own reading rounds to whole pixels, and so would move every box
    that is saved. :func:`boxes_drawn` reads it as it is.
    """
    return image_annotator(
        **_classes(labels),
        box_min_size=SMALLEST_SIDE,
        image_type="pil",
        box_thickness=1,
        box_selected_thickness=2,
        boxes_alpha=0.15,
        handle_size=6,
        sources=[],
        single_box=single_box,
        disable_edit_boxes=single_box or None,
        show_clear_button=False,
        show_download_button=False,
        show_remove_button=True,
        show_label=False,
        use_default_label=True,
        elem_id=elem_id,
    )


def colours(labels: Sequence[str]) -> dict[str, str]:
    """Class → its colour on the surface, as ``#rrggbb``."""
    return {name: "#" + bytes(PALETTE[index % len(PALETTE)]).hex() for index, name in enumerate(labels)}


def _classes(labels: Sequence[str]) -> dict[str, Any]:
    return {"label_list": list(labels), "label_colors": list(colours(labels).values())}


def zoom_of(window: Window) -> int:
    """By what factor a tile is enlarged on the surface."""
    return max(1, SHOWN_PIXELS // max(window.width, window.height))


def to_draw(pixels: NDArray[np.uint8], boxes_tile: Boxes, names: LabelSet | None, *, zoom: int = 1, unsure: Boxes | None = None) -> Any:
    """An update of the surface: the tile, its boxes, predicted boxes on top in a colour of their own, and the classes to choose from."""
    drawn = [_box(xyxy * zoom, label, names, PALETTE[int(label) % len(PALETTE)]) for xyxy, label in _each(boxes_tile)]
    if unsure is not None:
        drawn += [_box(xyxy * zoom, label, names, UNSURE) for xyxy, label in _each(unsure)]
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels).resize((width * zoom, height * zoom), Image.Resampling.BICUBIC)
    return gr.update(value={"image": picture, "boxes": drawn}, **_classes(names.names if names else ()))


def offered(names: LabelSet) -> Any:
    """An update of the surface that offers other classes and leaves what is drawn as it is."""
    return gr.update(**_classes(names.names))


def _each(boxes: Boxes) -> Iterator[tuple[NDArray[np.float64], int]]:
    return zip(boxes.xyxy, boxes.labels.tolist(), strict=True)


def _box(xyxy: NDArray[np.float64], label: int, names: LabelSet | None, colour: tuple[int, int, int]) -> dict[str, Any]:
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), xyxy.tolist(), strict=True))
    return {**sides, "label": names.names[int(label)] if names else "", "color": colour}


def boxes_drawn(value: Mapping[str, Any] | None, names: LabelSet, *, zoom: int = 1, new: str | None = None) -> Boxes:
    """The boxes of the surface's value as the browser sent it, in tile pixels; a box without a class is of the class ``new``.

    Raises:
        BadInput: a box of no class, or of one that the workspace does not have; a picture that was turned.
    """
    known = {name: index for index, name in enumerate(names.names)}
    labels = [box.get("label") or new for box in _drawn(value)]
    for number, label in enumerate(labels, start=1):
        if label not in known:
            raise BadInput(
                f"box {number} has the class {label or 'none'!r}",
                expected=f"one of {list(known)}",
                remedy="Choose the class of new boxes, or select the box and relabel it; nothing was saved",
            )
    return Boxes(corners(value, zoom=zoom), np.asarray([known[label] for label in labels if label], dtype=np.int64))


def corners(value: Mapping[str, Any] | None, *, zoom: int = 1) -> NDArray[np.float64]:
    """(N, 4) as (x1, y1, x2, y2) in tile pixels; the browser draws on a picture that it scales once more, and says by how much.

    Raises:
        BadInput: no numbers where coordinates belong, or a picture that was turned.
    """
    if value and value.get("orientation"):
        raise BadInput("the picture was turned", expected="it as it was opened", remedy="Turn it back; nothing was saved")
    try:
        rows = [
            [float(box[side]) / float(box.get("scaleFactor") or 1) for side in ("xmin", "ymin", "xmax", "ymax")] for box in _drawn(value)
        ]
    except (KeyError, TypeError, ValueError) as broken:
        raise BadInput("a drawn box that cannot be read", expected="four numbers", remedy="Open the tile again") from broken
    return np.asarray(rows, dtype=np.float64).reshape(-1, 4) / zoom


def _drawn(value: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((value or {}).get("boxes") or [])
