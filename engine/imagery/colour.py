"""From the bands of a raster to 8-bit RGB, by one stated rule; what the rule does not cover is refused, never guessed.

- 8 bit: the bands that are declared red, green and blue; else the first three of three or four; one grey band three times; a
  palette through its colours. Fewer than 8 bits are spread over 0 to 255.
- 16 and 32 bit integers, floats: each of these bands linearly from its 2nd to its 98th percentile to 0 to 255, clipped. The
  percentiles are taken over a fixed grid of windows of the scene, so they depend on the file alone.
- Complex numbers, signed bytes, 64 bit integers, five bands or more without declared colours: refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRETCHED_DTYPES", "ColourRule", "choose_bands", "percentile_range"]

STRETCHED_DTYPES = ("uint16", "int16", "uint32", "int32", "float32", "float64")
LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0


@dataclass(frozen=True, eq=False)
class ColourRule:
    """How the bands of one scene become RGB."""

    bands: tuple[int, ...]
    """one or three bands, counted from 1"""
    palette: NDArray[np.uint8] | None = None
    """colours (256, 3) of a palette"""
    ranges: tuple[tuple[float, float], ...] | None = None
    """the values (low, high) of each band that become 0 and 255; None for 8-bit values as they are"""

    def apply(self, raw: NDArray[np.generic]) -> NDArray[np.uint8]:
        """RGB (H, W, 3) of the values (B, H, W) of :attr:`bands`; values that are not finite become 0."""
        if self.palette is not None:
            colours: NDArray[np.uint8] = self.palette[raw[0].astype(np.intp)]
            return colours
        if self.ranges is not None:
            raw = np.stack([_stretch(band, *limits) for band, limits in zip(raw, self.ranges, strict=True)])
        channels = raw.astype(np.uint8, copy=False).transpose(1, 2, 0)
        return np.ascontiguousarray(np.broadcast_to(channels, (*channels.shape[:2], 3)))


def _stretch(band: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    values = band.astype(np.float64)
    values = np.where(np.isfinite(values), values, low)
    if high <= low:
        return np.zeros(band.shape, dtype=np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def percentile_range(values: NDArray[np.generic]) -> tuple[float, float]:
    """The 2nd and 98th percentile of the finite ``values``; (0, 0) where there is none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite.astype(np.float64), (LOW_PERCENTILE, HIGH_PERCENTILE))
    return float(low), float(high)


def choose_bands(meanings: Sequence[str]) -> tuple[int, ...] | None:
    """The bands, counted from 1, that are shown: one, or red, green and blue; None where that is not known.

    Args:
        meanings: what each band is declared to be: ``red``, ``gray``, ``palette``, ``alpha``, ``undefined``, …
    """
    if {"red", "green", "blue"} <= set(meanings):
        return tuple(meanings.index(colour) + 1 for colour in ("red", "green", "blue"))
    shown = [band for band, meaning in enumerate(meanings, start=1) if meaning != "alpha"]
    if {"cyan", "hue", "lightness", "Y", "Cb", "Cr"} & set(meanings):
        return None
    if len(shown) == 1:
        return (shown[0],)
    return tuple(shown[:3]) if len(shown) in (3, 4) else None
