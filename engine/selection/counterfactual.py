"""Whether choosing beats chance: tiles of a strategy against the tiles that were drawn at random in the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput

__all__ = ["Gap", "falls_back", "gap_to_chance"]

Floats = NDArray[np.float64]
DRAWS, CONFIDENCE = 1000, 0.95
FEWEST_TILES = 20
GAPS = 2


@dataclass(frozen=True)
class Gap:
    """How many times as much the detector is taught in a minute by chosen tiles as by tiles drawn at random, with a 95 % interval."""

    ratio: float
    low: float
    high: float
    chosen: int
    drawn: int

    @property
    def covers_chance(self) -> bool:
        """Whether chance may do as well, or better."""
        return self.low <= 1


def gap_to_chance(taught: Floats, seconds: Floats, by_chance: NDArray[np.bool_], seed: int = 0) -> Gap | None:
    """The pace of chosen tiles over that of drawn ones; None with fewer than twenty of either.

    A pace is all that was taught over all seconds. The logarithm of the ratio over its standard error is held against the same of ``DRAWS``
    permutations, which say at random which tiles were drawn (a studentised permutation test, Janssen 1997): where choosing makes no
    difference, 2.5 % of the intervals lie above 1, however skewed the tiles and few the drawn ones; of percentile bootstraps it may be
    seven times as many. Half a correction within the seconds of the smaller group is added to both paces, so that a group that was taught
    nothing has one.

    Args:
        taught: (N,) what the detector had to be taught on each tile, in boxes, 0 or more.
        seconds: (N,) of work, above 0.
        by_chance: (N,) tiles of the audit slice.
        seed: draws the permutations.

    Raises:
        BadInput: lengths that differ, or seconds that are not above 0.
    """
    if not len(taught) == len(seconds) == len(by_chance) or not (seconds > 0).all():
        raise BadInput(
            f"{len(taught)} corrections, {len(seconds)} seconds and {len(by_chance)} marks",
            expected="as many of each, seconds above 0",
        )
    count, drawn = len(by_chance), int(by_chance.sum())
    if min(drawn, count - drawn) < FEWEST_TILES:
        return None
    moments = np.stack([taught, seconds, taught * taught, taught * seconds, seconds * seconds])
    rows = np.random.default_rng(seed).random((DRAWS, count)).argpartition(drawn, axis=1)[:, :drawn]
    gap, error = _log_ratio(moments[:, by_chance].sum(axis=1), moments.sum(axis=1), drawn, count)
    by_permutation = _studentised(*_log_ratio(moments[:, rows].sum(axis=2), moments.sum(axis=1)[:, None], drawn, count))
    least, most = np.quantile(by_permutation, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.exp([gap - most * error, gap - least * error])
    return Gap(float(np.exp(gap)), float(low), float(high), count - drawn, drawn)


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
    return all(gap.covers_chance for place in known[-GAPS:] if (gap := gaps[place]) is not None)


def _log_ratio(drawn: Floats, every: Floats, number: int, count: int) -> tuple[Floats, Floats]:
    """The logarithm of the pace of chosen tiles over that of ``drawn`` ones, and its standard error by the delta method.

    Args:
        drawn: (5, …) sums over the drawn tiles of what was taught t, of the seconds s, and of t², t·s and s².
        every: the same over all tiles, of a shape that goes with it.
        number: of drawn tiles.
        count: of all tiles.
    """
    chosen = every - drawn
    least = 0.5 / np.minimum(drawn[1], chosen[1])
    logarithms, variance = [], np.zeros(())
    for (taught, seconds, taught_2, product, seconds_2), tiles in ((chosen, count - number), (drawn, number)):
        pace = taught / seconds
        scatter = np.maximum(taught_2 - 2 * pace * product + pace * pace * seconds_2, 0) * tiles / (tiles - 1)
        logarithms.append(np.log(pace + least))
        variance = variance + scatter / (seconds * (pace + least)) ** 2
    return logarithms[0] - logarithms[1], np.sqrt(variance)


def _studentised(gap: Floats, error: Floats) -> Floats:
    """``gap`` in standard errors; 0 where every tile teaches at the same pace."""
    studentised: Floats = np.divide(gap, error, out=np.zeros_like(gap), where=error > 0)
    return studentised
