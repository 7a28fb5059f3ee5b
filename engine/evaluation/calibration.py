"""Whether a score is the share of predictions that are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.evaluation.matching import Matches

__all__ = ["Reliability", "ScoreBin", "reliability"]

BINS = 10
FLOOR = 0.05
"""Hundreds of spare queries score next to nothing and are next to never right; counted, they would hide the rest."""


@dataclass(frozen=True)
class ScoreBin:
    """Predictions whose score lies in [``low``, ``high``): their mean score, and the share that is right; None where there are none."""

    low: float
    high: float
    predictions: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram, and its expected calibration error in [0, 1]: the mean distance of score and precision, by predictions.

    None where nothing was predicted at or above ``floor``.
    """

    bins: tuple[ScoreBin, ...]
    expected_error: float | None
    floor: float


def reliability(matches: Matches, *, floor: float = FLOOR, bins: int = BINS) -> Reliability:
    """Bin the predictions by score (Guo et al. 2017, section 2, with precision in the place of accuracy as Küppers et al. 2020 do).

    Args:
        matches: of all classes.
        floor: predictions below this score are left out.
        bins: of equal width in [0, 1], the last one closed.
    """
    kept = matches.score >= floor
    score, right = matches.score[kept], matches.right[kept]
    # in single precision, or 0.3 falls below the edge 0.30000000000000004
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges.astype(np.float32), score.astype(np.float32), side="right") - 1, 0, bins - 1)
    found = []
    error = 0.0
    for number in range(bins):
        mine = place == number
        count = int(mine.sum())
        mean = float(score[mine].mean()) if count else None
        share = float(right[mine].mean()) if count else None
        if mean is not None and share is not None:
            error += abs(mean - share) * count / len(score)
        found.append(ScoreBin(round(float(edges[number]), 6), round(float(edges[number + 1]), 6), count, mean, share))
    return Reliability(tuple(found), error if len(score) else None, floor)
