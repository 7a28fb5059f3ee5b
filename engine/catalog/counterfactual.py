"""What rounds say of choosing against chance: corrections a minute on chosen tiles and on those drawn at random beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from engine.catalog.rounds import AUDIT, round_tiles, rounds
from engine.catalog.schema import RoundRow
from engine.catalog.visits import MeasuredVisit, measured_visits
from engine.selection.counterfactual import Gap, falls_back, gap_to_chance

__all__ = ["RoundGap", "chance_gaps", "keep_fall_back", "must_fall_back", "stored_fall_back"]

FELL_BACK = "fell_back"
"""Key of a round's metrics: why it was drawn at random."""


@dataclass(frozen=True)
class RoundGap:
    """A round's gap to chance, None where too few of its tiles were annotated; ``fell_back``: whether it was drawn at random for that."""

    round: int
    gap: Gap | None
    fell_back: bool


def chance_gaps(session: Session) -> list[RoundGap]:
    """The gap of each round, in their order."""
    visit_of = {visit.tile: visit for visit in reversed(measured_visits(session))}
    return [RoundGap(row.number, _gap(session, row, visit_of), FELL_BACK in row.metrics) for row in rounds(session)]


def keep_fall_back(row: RoundRow, why: str) -> None:
    """Write down why ``row`` was drawn at random, in the caller's transaction."""
    row.metrics = {**row.metrics, FELL_BACK: why}


def stored_fall_back(row: RoundRow) -> str | None:
    """Why the round was drawn at random though another strategy was asked for; None where it was not."""
    why: str | None = row.metrics.get(FELL_BACK)
    return why


def must_fall_back(session: Session) -> str | None:
    """Why the next round is to be drawn at random; None where choosing is worth it, or not known not to be.

    Audits say nothing of it: they look at labels again.
    """
    found = [each for row, each in zip(rounds(session), chance_gaps(session), strict=True) if row.strategy != AUDIT]
    if not falls_back([each.gap for each in found], [each.fell_back for each in found]):
        return None
    said = [
        f"round {each.round}: {each.gap.mean:+.2f} ({each.gap.low:.2f} to {each.gap.high:.2f})"
        for each in found
        if each.gap is not None and not each.fell_back
    ]
    return (
        "chosen tiles did not teach the detector more a minute than tiles drawn at random, in corrections a minute with their 95 % "
        f"interval: {', '.join(said[-2:])}; this round is drawn at random, the next is chosen again"
    )


def _gap(session: Session, row: RoundRow, visit_of: dict[int, MeasuredVisit]) -> Gap | None:
    links = [link for link in round_tiles(session, row) if link.tile_id in visit_of and "audit" in link.reasons]
    visits = [visit_of[link.tile_id] for link in links]
    timed = [place for place, visit in enumerate(visits) if visit.seconds > 0]
    return gap_to_chance(
        np.asarray([visits[place].edited + visits[place].drawn + visits[place].deleted for place in timed], dtype=np.float64),
        np.asarray([visits[place].seconds for place in timed], dtype=np.float64),
        np.asarray([bool(links[place].reasons["audit"]) for place in timed], dtype=bool),
        seed=row.number,
    )
