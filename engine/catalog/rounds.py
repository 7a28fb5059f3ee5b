"""Rounds: what was chosen under which budget, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.catalog.schema import RoundRow, RoundTile
from engine.catalog.tiles import chunks
from engine.errors import BadInput

__all__ = ["AUDIT", "ChosenTile", "add_round", "get_round", "newest_link", "newest_links", "round_tiles", "rounds", "seconds_spent"]

AUDIT = "audit"
"""The strategy of a round whose tiles are labelled already and are to be looked at again."""


@dataclass(frozen=True)
class ChosenTile:
    """A tile that a round pays for: its score, the seconds it is expected to cost, and JSON-ready reasons."""

    tile_id: int
    score: float
    estimated_seconds: float
    reasons: dict[str, Any]


def add_round(
    session: Session, *, budget_seconds: float, strategy: str, seed: int, chosen: Sequence[ChosenTile], prediction_set_id: int | None = None
) -> RoundRow:
    """Write the next round with its tiles in the order of ``chosen``; its number is one above the last."""
    number = (session.scalar(select(func.max(RoundRow.number))) or 0) + 1
    row = RoundRow(
        number=number,
        budget_seconds=budget_seconds,
        strategy=strategy,
        seed=seed,
        prediction_set_id=prediction_set_id,
        estimated_seconds=sum(tile.estimated_seconds for tile in chosen),
    )
    session.add(row)
    session.flush()
    session.add_all(
        RoundTile(
            round_id=row.id,
            tile_id=tile.tile_id,
            position=position,
            score=tile.score,
            estimated_seconds=tile.estimated_seconds,
            reasons=tile.reasons,
        )
        for position, tile in enumerate(chosen)
    )
    session.flush()
    return row


def rounds(session: Session) -> list[RoundRow]:
    """All rounds by number."""
    return list(session.scalars(select(RoundRow).order_by(RoundRow.number)))


def get_round(session: Session, number: int | None = None) -> RoundRow:
    """The round ``number``, or the newest.

    Raises:
        BadInput: there is none; the message says which there are.
    """
    known = rounds(session)
    if number is None and known:
        return known[-1]
    for row in known:
        if row.number == number:
            return row
    found = "no round in this workspace" if number is None else f"no round {number}"
    raise BadInput(found, expected=f"one of {[row.number for row in known]}" if known else "", remedy="Make one: tilehawk rank")


def round_tiles(session: Session, row: RoundRow) -> list[RoundTile]:
    """The tiles of a round in their order."""
    return list(session.scalars(select(RoundTile).where(RoundTile.round_id == row.id).order_by(RoundTile.position)))


def newest_link(session: Session, tile_id: int) -> RoundTile | None:
    """The tile in the newest round that chose it, None where none did."""
    return newest_links(session, [tile_id]).get(tile_id)


def newest_links(session: Session, tile_ids: Sequence[int]) -> dict[int, RoundTile]:
    """By tile id, the tile in the newest round that chose it; those that none chose are left out."""
    query = select(RoundTile).join(RoundRow, RoundRow.id == RoundTile.round_id).order_by(RoundRow.number)
    asked = [query.where(RoundTile.tile_id.in_(chunk)) for chunk in chunks(tile_ids)]
    return {link.tile_id: link for each in asked for link in session.scalars(each)}


def seconds_spent(session: Session, row: RoundRow) -> float:
    """Seconds measured on the tiles of a round so far."""
    return session.scalar(select(func.sum(RoundTile.measured_seconds)).where(RoundTile.round_id == row.id)) or 0.0
