"""Windows over a scene: pure arithmetic."""

from __future__ import annotations

from engine.errors import UsageError
from engine.records import Window

__all__ = ["windows"]


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def windows(width: int, height: int, tile: int, overlap: int) -> list[Window]:
    """Windows that cover a scene of ``width`` × ``height`` pixels, row by row.

    Each is ``tile`` × ``tile``, or as large as the scene along a side where the scene is smaller. Neighbours share at least
    ``overlap`` pixels; the last row and column are moved inward, so they share more.

    Raises:
        UsageError: a size below 1, or an overlap outside [0, tile).
    """
    if min(width, height, tile) < 1:
        raise UsageError(f"windows of {tile} px over {width} × {height} px", expected="sizes of at least 1 px")
    if not 0 <= overlap < tile:
        raise UsageError(f"an overlap of {overlap} px between tiles of {tile} px", expected="0 or more, and less than the tile")
    return [
        Window(x, y, min(tile, width), min(tile, height)) for y in _starts(height, tile, overlap) for x in _starts(width, tile, overlap)
    ]
