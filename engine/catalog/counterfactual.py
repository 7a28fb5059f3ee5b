"""What rounds say of choosing against chance: corrections a minute on chosen tiles and on those drawn at random beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from engine.catalog.costs import WorkedVisits, worked_visits
from engine.catalog.rounds import AUDIT, round_tiles, rounds
from engine.catalog.schema import RoundRow, RoundTile
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig
from engine.selection.counterfactual import Gap, falls_back, gap_to_chance

__all__ = ["RoundGap", "chance_gaps", "keep_fall_back", "must_fall_back", "stored_fall_back"]

FELL_BACK = "fell_back"
"""Key of a round's metrics: why it was drawn at random."""


@dataclass(frozen=True)
class RoundGap:
    """What the rounds from ``first`` to ``round`` say of chance together; None while too few of their tiles were annotated.

    ``fell_back``: whether ``round`` was drawn at random because two gaps before it covered 0.
    """

    round: int
    first: int
    gap: Gap | None
    fell_back: bool

    @property
    def rounds(self) -> str:
        """Which rounds those are."""
        return f"round {self.round}" if self.first == self.round else f"rounds {self.first} to {self.round}"


def chance_gaps(session: Session, priors: Prices, fit: CostFitConfig) -> list[RoundGap]:
    """The gap at each round, in their order.

    A tile counts once, by its first visit, in the newest round that chose it; visits that were left lying do not count, and rounds in which
    nothing was drawn at random say nothing. Tiles of a round that has too few wait for those of the next, and the gap stands at the round
    with which there are enough.

    Args:
        session: an open transaction.
        priors: prices in seconds, by which the pace of annotators is learned.
        fit: how it is learned, and which visits were left lying.
    """
    worked = worked_visits(session, priors, fit)
    visit_of = {visit.tile: place for place, visit in reversed(list(enumerate(worked.visits))) if np.isfinite(worked.seconds[place])}
    known = rounds(session)
    links_of = {row.number: round_tiles(session, row) for row in known if row.strategy != AUDIT}
    newest = {link.tile_id: number for number, links in links_of.items() for link in links}
    found: list[RoundGap] = []
    pooled: list[tuple[int, RoundTile]] = []
    for row in known:
        links = [link for link in links_of.get(row.number, []) if newest[link.tile_id] == row.number]
        if any(link.reasons.get("audit") for link in links):
            pooled += [(row.number, link) for link in links if link.tile_id in visit_of]
        gap = _gap([link for _, link in pooled], worked, visit_of, seed=row.number)
        found.append(RoundGap(row.number, pooled[0][0] if gap else row.number, gap, FELL_BACK in row.metrics))
        pooled = [] if gap else pooled
    return found


def keep_fall_back(row: RoundRow, why: str) -> None:
    """Write down why ``row`` was drawn at random, in the caller's transaction."""
    row.metrics = {**row.metrics, FELL_BACK: why}


def stored_fall_back(row: RoundRow) -> str | None:
    """Why the round was drawn at random though another strategy was asked for; None where it was not."""
    why: str | None = row.metrics.get(FELL_BACK)
    return why


def must_fall_back(session: Session, priors: Prices, fit: CostFitConfig) -> str | None:
    """Why the next round is to be drawn at random; None where choosing is worth it, or not known not to be.

    Audits say nothing of it: they look at labels again.
    """
    every = zip(rounds(session), chance_gaps(session, priors, fit), strict=True)
    found = [each for row, each in every if row.strategy != AUDIT]
    if not falls_back([each.gap for each in found], [each.fell_back for each in found]):
        return None
    said = [
        f"{each.rounds}: {each.gap.mean:+.2f} ({each.gap.low:+.2f} to {each.gap.high:+.2f})"
        for each in found
        if each.gap is not None and not each.fell_back
    ]
    return (
        "chosen tiles could not be told from tiles drawn at random by what they taught the detector, in corrections a minute beyond chance "
        f"with their 95 % interval: {', '.join(said[-2:])}; this round is drawn at random, the next is chosen again"
    )


def _gap(links: Sequence[RoundTile], worked: WorkedVisits, visit_of: dict[int, int], *, seed: int) -> Gap | None:
    visits = [worked.visits[visit_of[link.tile_id]] for link in links]
    return gap_to_chance(
        np.asarray([visit.edited + visit.drawn + visit.deleted for visit in visits], dtype=np.float64),
        worked.seconds[[visit_of[link.tile_id] for link in links]],
        np.asarray([bool(link.reasons.get("audit")) for link in links], dtype=bool),
        seed=seed,
    )
