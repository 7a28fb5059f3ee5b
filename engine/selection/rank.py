"""The tiles that are worth an annotator's next minutes, in order, with the reason for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, NothingToDo
from engine.progress import Progress, silent
from engine.selection.candidates import Candidates
from engine.selection.config import SelectionConfig, Strategy
from engine.selection.coverage import nearest
from engine.selection.pool import Pool, make_pool
from engine.selection.reasons import explain
from engine.selection.strategies import STRATEGIES, Choice

__all__ = ["RankedTile", "Ranking", "rank"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
LIKELY = 0.5


@dataclass(frozen=True)
class RankedTile:
    """One chosen tile: its score on the strategy's own scale, its expected seconds, the numbers behind it and one sentence."""

    tile_id: int
    score: float
    estimated_seconds: float
    reasons: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Ranking:
    """The chosen tiles in order, what all are expected to cost, and how much doubt, balance and coverage decided.

    ``strategy``: random where the one that was asked for had nothing to go by.
    """

    tiles: tuple[RankedTile, ...]
    estimated_seconds: float
    strategy: Strategy
    weights: dict[str, float] = field(default_factory=dict)


def rank(candidates: Candidates, config: SelectionConfig, *, progress: Progress = silent) -> Ranking:
    """Choose tiles whose expected seconds fit into the budget; the same tiles, config and seed give the same ranking in any input order.

    Raises:
        BadInput: a budget of 0 or below; a strategy that needs embeddings or detections that are not there; a wanted class that is none.
        NothingToDo: no tile is left to choose, or the budget does not pay for the cheapest.
    """
    if not config.budget_seconds > 0:
        raise BadInput(
            f"a budget of {config.budget_seconds:g} seconds",
            expected="more than 0",
            remedy="Give the seconds that annotators have for this round",
        )
    foreign = [name for name in config.wanted_classes if name not in candidates.class_names]
    if foreign:
        raise BadInput(f"the wanted class {foreign[0]!r}", expected=f"one of {list(candidates.class_names)}")
    pool = make_pool(candidates.by_id(), config)
    cheapest = float(pool.costs.seconds.min())
    if config.budget_seconds < cheapest:
        raise NothingToDo(
            f"a budget of {config.budget_seconds:g} seconds pays for no tile: the cheapest is expected to cost {cheapest:.1f} seconds",
            remedy=f"Give at least {int(np.ceil(cheapest))} seconds",
        )
    choice = STRATEGIES[config.strategy](pool, config, progress)
    strategy: Strategy = config.strategy if choice.weights else "random"
    return Ranking(tuple(_described(pool, choice)), choice.picks.cost, strategy, dict(choice.weights))


def _described(pool: Pool, choice: Choice) -> list[RankedTile]:
    rows, gains = _presented(choice)
    similarity, nearest_id = _nearest_labelled(pool, rows)
    described = []
    for place, (row, gain) in enumerate(zip(rows, gains, strict=True)):
        cost = pool.costs.take(np.array([row]))
        reasons: dict[str, Any] = {
            "weights": {name: round(weight, 4) for name, weight in choice.weights.items()},
            "audit": bool(row in choice.audit),
            "scene": int(pool.scene_ids[row]),
            "uncertainty": None if pool.seen is None else round(float(pool.seen.uncertainty[row]), 4),
            "objects_seen": None if pool.seen is None else int(pool.seen.number[row]),
            "classes": _likely_classes(pool, row),
            "novelty": None if similarity is None else round(1 - float(similarity[place]), 4),
            "nearest_labelled_tile": None if nearest_id is None else int(nearest_id[place]),
            "overlaps_labelled": bool(pool.deferred[row]),
            "saturated": bool(pool.saturated[row]),
            "expected_boxes": {
                "sure": round(float(cost.sure[0]), 2),
                "medium": round(float(cost.medium[0]), 2),
                "missed": round(float(cost.missed[0]), 2),
            },
        }
        seconds = float(cost.seconds[0])
        described.append(RankedTile(int(pool.tile_ids[row]), float(gain), seconds, reasons, explain(reasons, seconds)))
    return described


def _presented(choice: Choice) -> tuple[Integers, list[float]]:
    """Rows and gains in the order in which they are annotated: the audit slice evenly among the others.

    Whoever stops early then has as large a share of both.
    """
    rows, gains = np.asarray(choice.picks.indices, dtype=np.int64), np.asarray(choice.picks.gains)
    drawn = np.isin(rows, list(choice.audit))
    place = np.empty(len(rows))
    for part in (drawn, ~drawn):
        place[part] = (np.arange(part.sum()) + 0.5) / max(part.sum(), 1)
    order = np.lexsort((rows, drawn, place)) if drawn.any() else np.arange(len(rows))
    return rows[order], gains[order].tolist()


def _likely_classes(pool: Pool, row: int) -> dict[str, float]:
    """Expected objects of the classes of which one is likelier there than not."""
    if pool.seen is None:
        return {}
    counts = pool.seen.counts[row]
    return {pool.class_names[label]: round(float(counts[label]), 2) for label in np.flatnonzero(counts >= LIKELY)}


def _nearest_labelled(pool: Pool, rows: Integers) -> tuple[Floats | None, Integers | None]:
    if pool.directions is None:
        return None, None
    if not len(pool.labelled_ids):
        return np.zeros(len(rows)), None
    similarity, row = nearest(pool.points(rows), pool.labelled_points)
    return similarity, pool.labelled_ids[row]
