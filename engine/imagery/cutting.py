"""A scene as ingest sees it: decoded whole, cut into windows, each with the hash of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.imagery.duplicates import pixel_hash
from engine.imagery.raster import DEFAULT_LIMITS, Raster, RasterInfo, RasterLimits
from engine.imagery.tiling import windows
from engine.records import Window

__all__ = ["CutScene", "cut_scene"]

WINDOWS_PER_TICK = 16


@dataclass(frozen=True)
class CutScene:
    """What a scene's header says, its windows that hold data, and their pixel hashes in the same order."""

    info: RasterInfo
    windows: list[Window]
    hashes: list[str]
    left_out: int
    """windows with too few pixels that hold data"""


def cut_scene(
    path: Path,
    *,
    tile: int,
    overlap: int,
    minimum_valid_share: float,
    limits: RasterLimits = DEFAULT_LIMITS,
    tick: Callable[[], None] = lambda: None,
) -> CutScene:
    """Decode every pixel of the raster at ``path``, window by window, so that a damaged file is found now and not in training.

    Args:
        path: JPEG, PNG or GeoTIFF.
        tile: side of a window in pixels.
        overlap: pixels that neighbours share at least.
        minimum_valid_share: windows below it are left out, though they are decoded too.
        limits: caps on the header.
        tick: called every few windows; may raise to stop.

    Raises:
        UnreadableImage: see :class:`engine.imagery.raster.Raster`.
    """
    kept: list[Window] = []
    hashes: list[str] = []
    with Raster(path, limits) as raster:
        every = windows(raster.info.width, raster.info.height, tile, overlap)
        for count, window in enumerate(every):
            if count % WINDOWS_PER_TICK == 0:
                tick()
            image = raster.read(window)
            if raster.valid_share(window) >= minimum_valid_share:
                kept.append(window)
                hashes.append(pixel_hash(image))
        return CutScene(raster.info, kept, hashes, len(every) - len(kept))
