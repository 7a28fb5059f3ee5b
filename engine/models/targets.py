"""What is really in the images of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engine.errors import BadInput

__all__ = ["Targets", "check_targets"]


class Targets(NamedTuple):
    """The objects of one image."""

    labels: Tensor
    """(n,) int64."""
    boxes: Tensor
    """(n, 4) as (cx, cy, w, h), normalised."""
    absence: float = 1.0
    """How much it counts, in [0, 1], that nothing is anywhere else: below 1 where not all objects are known."""


def _first_fault(target: Targets, classes: int) -> str | None:
    centres, sizes = target.boxes[:, :2], target.boxes[:, 2:]
    outside = ((centres + sizes / 2 <= 0) | (centres - sizes / 2 >= 1)).any(-1)
    faults = (
        ("is not finite", ~torch.isfinite(target.boxes).all(-1)),
        ("has no area", (sizes <= 0).any(-1)),
        ("lies outside the tile", outside),
        (f"is of a class outside 0 … {classes - 1}", (target.labels < 0) | (target.labels >= classes)),
    )
    for what, which in faults:
        if bool(which.any()):
            index = int(which.nonzero()[0, 0])
            return f"box {index} {what}: class {int(target.labels[index])}, (cx, cy, w, h) = {target.boxes[index].tolist()}"
    return None


def check_targets(targets: list[Targets], classes: int, names: Sequence[str] | None = None) -> None:
    """Refuse targets that no loss can be computed of.

    Args:
        targets: one an image.
        classes: C.
        names: of the tiles, for the message; their places in the batch where there are none.

    Raises:
        BadInput: a box that is not finite, has no area or lies outside its tile, or a class that does not exist; the tile is named.
    """
    for number, target in enumerate(targets):
        fault = _first_fault(target, classes) if len(target.labels) else None
        if fault is not None:
            tile = names[number] if names is not None else f"image {number} of the batch"
            raise BadInput(
                f"{tile}: {fault}", expected="boxes with an area in the tile, of known classes", remedy="Correct or remove the box"
            )
