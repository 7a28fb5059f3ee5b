"""Whether choosing beats chance: tiles of a strategy against the tiles that were drawn at random in the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput

__all__ = ["Gap", "falls_back", "gap_to_chance"]

Floats = NDArray[np.float64]
DRAWS, CONFIDENCE = 2000, 0.95
FEWEST_TILES = 5
GAPS = 2
MINUTE = 60.0


@dataclass(frozen=True)
class Gap:
    """Corrections of the detector a minute of work on chosen tiles, beyond those on tiles drawn at random, with a 95 % interval."""

    mean: float
    low: float
    high: float
    chosen: int
    drawn: int

    @property
    def covers_zero(self) -> bool:
        """Whether chance may do as well, or better."""
        return self.low <= 0


def gap_to_chance(corrections: Floats, seconds: Floats, by_chance: NDArray[np.bool_], seed: int = 0) -> Gap | None:
    """How much more the detector is taught in a minute by chosen tiles than by drawn ones; None with fewer than five of either.

    What an annotator has to correct (boxes moved, drawn and deleted) is what the detector did not know. The interval is a percentile
    bootstrap over tiles.

    Args:
        corrections: (N,) boxes that were not as the detector showed them.
        seconds: (N,) of work, above 0.
        by_chance: (N,) tiles of the audit slice.
        seed: draws the bootstrap.

    Raises:
        BadInput: lengths that differ, or seconds that are not above 0.
    """
    if not len(corrections) == len(seconds) == len(by_chance) or not (seconds > 0).all():
        raise BadInput(
            f"{len(corrections)} corrections, {len(seconds)} seconds and {len(by_chance)} marks",
            expected="as many of each, seconds above 0",
        )
    groups = [np.flatnonzero(~by_chance), np.flatnonzero(by_chance)]
    if min(len(group) for group in groups) < FEWEST_TILES:
        return None
    generator = np.random.default_rng(seed)
    pace = [_paces(corrections[group], seconds[group], generator) for group in groups]
    drawn = pace[0][1] - pace[1][1]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Gap(pace[0][0] - pace[1][0], float(low), float(high), len(groups[0]), len(groups[1]))


def falls_back(gaps: Sequence[Gap | None], fell_back: Sequence[bool]) -> bool:
    """Whether the next round is drawn at random: choosing could not be told from chance in the last two gaps that are known.

    A round that was drawn is followed by rounds that are chosen, until the next gap is known, so that choosing gets its next chance.

    Args:
        gaps: at each round so far, None where too few tiles were annotated by then.
        fell_back: whether that round was drawn at random for this reason.
    """
    known = [place for place, gap in enumerate(gaps) if gap is not None and not fell_back[place]]
    last_drawn = max((place for place, drawn in enumerate(fell_back) if drawn), default=-1)
    if len(known) < GAPS or known[-1] < last_drawn:
        return False
    return all(gap.covers_zero for place in known[-GAPS:] if (gap := gaps[place]) is not None)


def _paces(corrections: Floats, seconds: Floats, generator: np.random.Generator) -> tuple[float, Floats]:
    """Corrections a minute, and the same of ``DRAWS`` samples of the tiles."""
    rows = generator.integers(0, len(seconds), (DRAWS, len(seconds)))
    sampled: Floats = MINUTE * corrections[rows].sum(axis=1) / seconds[rows].sum(axis=1)
    return MINUTE * float(corrections.sum() / seconds.sum()), sampled
