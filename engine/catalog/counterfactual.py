"""What rounds say of choosing against chance: what chosen tiles taught the detector in a minute, and those drawn at random beside them.

What an annotator has to correct is what the detector did not know. A correction counts by its price against that of a drawn box: an
object that was missed is 1, a box to be moved about a half, a box to be deleted an eighth. Counted alike, a tile full of false alarms,
each gone in a moment, would seem to teach eight times as much in a minute as one with an object that nobody had found. The prices are the
configured ones and not those fitted to the annotators, for these come from the very seconds that the corrections are held against.
"""

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

    ``fell_back``: whether ``round`` was drawn at random because two gaps before it covered chance.
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
    nothing was drawn at random say nothing. Tiles of a round that has too few wait for those of the next of the same strategy, and the gap
    stands at the round with which there are enough.

    Args:
        session: an open transaction.
        priors: prices in seconds, by which the pace of annotators is learned and corrections are weighed.
        fit: how it is learned, and which visits were left lying.
    """
    worked = worked_visits(session, priors, fit)
    visit_of = {visit.tile: place for place, visit in reversed(list(enumerate(worked.visits))) if np.isfinite(worked.seconds[place])}
    known = rounds(session)
    links_of = {row.number: round_tiles(session, row) for row in known if row.strategy != AUDIT}
    newest = {link.tile_id: number for number, links in links_of.items() for link in links}
    found: list[RoundGap] = []
    pooled_of: dict[str, list[tuple[int, RoundTile]]] = {}
    for row in known:
        pooled = pooled_of.setdefault(row.strategy, [])
        links = [link for link in links_of.get(row.number, []) if newest[link.tile_id] == row.number]
        if any(link.reasons.get("audit") for link in links):
            pooled += [(row.number, link) for link in links if link.tile_id in visit_of]
        gap = _gap([link for _, link in pooled], worked, visit_of, priors, seed=row.number)
        found.append(RoundGap(row.number, pooled[0][0] if gap else row.number, gap, FELL_BACK in row.metrics))
        if gap:
            pooled_of[row.strategy] = []
    return found


def keep_fall_back(row: RoundRow, why: str) -> None:
    """Write down why ``row`` was drawn at random, in the caller's transaction."""
    row.metrics = {**row.metrics, FELL_BACK: why}


def stored_fall_back(row: RoundRow) -> str | None:
    """Why the round was drawn at random though another strategy was asked for; None where it was not."""
    why: str | None = row.metrics.get(FELL_BACK)
    return why


def must_fall_back(session: Session, strategy: str, priors: Prices, fit: CostFitConfig) -> str | None:
    """Why the next round is to be drawn at random and not chosen by ``strategy``; None where choosing is worth it, or not known not to be.

    What rounds of other strategies say has no say. Audits say nothing of it: they look at labels again.
    """
    every = zip(rounds(session), chance_gaps(session, priors, fit), strict=True)
    found = [each for row, each in every if row.strategy == strategy or each.fell_back]
    if not falls_back([each.gap for each in found], [each.fell_back for each in found]):
        return None
    said = [
        f"{each.rounds}: {each.gap.ratio:.2f} ({each.gap.low:.2f} to {each.gap.high:.2f})"
        for each in found
        if each.gap is not None and not each.fell_back
    ]
    return (
        "chosen tiles could not be told from tiles drawn at random by what they taught the detector in a minute, times what those did "
        f"with the 95 % interval: {', '.join(said[-2:])}; this round is drawn at random, the next is chosen again"
    )


def _gap(links: Sequence[RoundTile], worked: WorkedVisits, visit_of: dict[int, int], prices: Prices, *, seed: int) -> Gap | None:
    visits = [worked.visits[visit_of[link.tile_id]] for link in links]
    paid = [prices.edit * visit.edited + prices.draw * visit.drawn + prices.delete * visit.deleted for visit in visits]
    return gap_to_chance(
        np.asarray(paid, dtype=np.float64) / prices.draw,
        worked.seconds[[visit_of[link.tile_id] for link in links]],
        np.asarray([bool(link.reasons.get("audit")) for link in links], dtype=bool),
        seed=seed,
    )
