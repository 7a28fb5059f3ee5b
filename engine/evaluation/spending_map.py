"""A map of where annotators' seconds went and where they are to go: tiles coloured over their scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError

__all__ = ["PLANNED", "SPENT", "TilesOnMap", "draw_spending", "full_seconds"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

SPENT, PLANNED = ((255, 237, 160), (189, 0, 38)), ((222, 235, 247), (8, 81, 156))
"""From no seconds to the full colour."""
GROUND_LEAST, GROUND_SHARE = 90, 0.5
"""The grey of black ground under the tiles, and how much of the scene's contrast is left."""
CLEAR, PALE = 0.7, 0.3
"""How much a tile covers of its ground: one that is looked at, and another."""
BORDER = (255, 255, 255)
FULL_SHARE = 0.95
"""A tile dearer than this share of all tiles has the full colour: one that was left open over lunch does not make the others pale."""


@dataclass(frozen=True, eq=False)
class TilesOnMap:
    """N tiles.

    ``xyxy`` (N, 4) in pixels of the map; ``seconds`` (N,), 0 or more, measured where ``spent`` (N,), else expected; ``looked_at`` (N,): of
    the round that is looked at, drawn clear, with a border, and over the others.
    """

    xyxy: Floats
    seconds: Floats
    spent: Flags
    looked_at: Flags

    def __post_init__(self) -> None:
        shapes = [each.shape for each in (self.xyxy, self.seconds, self.spent, self.looked_at)]
        count = len(self.seconds)
        if shapes != [(count, 4), (count,), (count,), (count,)]:
            raise UsageError(f"tiles on a map of shapes {shapes}", expected="(N, 4), (N,), (N,), (N,)")


def full_seconds(seconds: Sequence[float]) -> float:
    """From how many seconds on a tile has the full colour, where tiles took or will take ``seconds``; 1 at least."""
    return max(float(np.quantile(seconds, FULL_SHARE)), 1.0) if seconds else 1.0


def draw_spending(scene: Pixels, tiles: TilesOnMap, *, full_seconds: float) -> Pixels:
    """Colour the tiles over a grey copy of their scene, seconds spent from yellow to red, seconds planned from pale to dark blue.

    Args:
        scene: RGB (H, W, 3).
        tiles: of this scene; where two of them overlap, the one with more seconds is seen.
        full_seconds: from so many on a tile has the full colour; above 0.

    Returns:
        RGB (H, W, 3).

    Raises:
        UsageError: ``full_seconds`` is not above 0.
    """
    if not full_seconds > 0:
        raise UsageError(f"full_seconds = {full_seconds:g}", expected="above 0")
    grey = GROUND_LEAST + GROUND_SHARE * scene.astype(np.float64).mean(2, keepdims=True)
    canvas = np.repeat(grey, 3, axis=2)
    share = np.clip(tiles.seconds / full_seconds, 0.0, 1.0)[:, None]
    ends = np.where(tiles.spent[:, None, None], np.array(SPENT), np.array(PLANNED))
    colours = ends[:, 0] + share * (ends[:, 1] - ends[:, 0])
    for row in np.lexsort((tiles.seconds, tiles.looked_at)):
        left, top, right, bottom = _pixels(tiles.xyxy[row], scene.shape[1], scene.shape[0])
        cover = CLEAR if tiles.looked_at[row] else PALE
        canvas[top:bottom, left:right] = cover * colours[row] + (1 - cover) * grey[top:bottom, left:right]
        if tiles.looked_at[row]:
            canvas[[top, bottom - 1], left:right] = BORDER
            canvas[top:bottom, [left, right - 1]] = BORDER
    drawn: Pixels = np.rint(canvas).astype(np.uint8)
    return drawn


def _pixels(xyxy: Floats, width: int, height: int) -> tuple[int, int, int, int]:
    """The pixels that a tile covers, one at least, none outside of the map."""
    left, top = min(max(int(xyxy[0]), 0), width - 1), min(max(int(xyxy[1]), 0), height - 1)
    return left, top, min(max(round(xyxy[2]), left + 1), width), min(max(round(xyxy[3]), top + 1), height)
