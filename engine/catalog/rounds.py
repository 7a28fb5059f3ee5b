"""Rounds: what was chosen under which budget, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from engine.catalog.schema import ModelRow, Review, RoundRow, RoundTile
from engine.catalog.tiles import chunks
from engine.errors import BadInput

__all__ = [
    "AUDIT",
    "ChosenTile",
    "add_round",
    "get_round",
    "keep_left_out",
    "keep_why_cold",
    "newest_link",
    "newest_links",
    "round_tiles",
    "rounds",
    "seconds_spent",
    "stored_left_out",
    "stored_why_cold",
    "tile_links",
    "waiting_tiles",
]

AUDIT = "audit"
"""The strategy of a round whose tiles are labelled already and are to be looked at again."""

LEFT_OUT = "left_out"
"""Key of a round's metrics: how many tiles could not be chosen for they waited in rounds before."""
WHY_COLD = "why_cold"
"""Key of a round's metrics: why the newest detector had no say in it."""


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
    return {tile_id: links[-1] for tile_id, links in tile_links(session, tile_ids).items()}


def tile_links(session: Session, tile_ids: Sequence[int]) -> dict[int, list[RoundTile]]:
    """By tile id, the tile in every round that chose it, the newest last; those that none chose are left out."""
    query = select(RoundTile).join(RoundRow, RoundRow.id == RoundTile.round_id).order_by(RoundRow.number)
    asked = [query.where(RoundTile.tile_id.in_(chunk)) for chunk in chunks(tile_ids)]
    found: dict[int, list[RoundTile]] = {}
    for link in (link for each in asked for link in session.scalars(each)):
        found.setdefault(link.tile_id, []).append(link)
    return found


def seconds_spent(session: Session, row: RoundRow) -> float:
    """Seconds measured on the tiles of a round so far."""
    return session.scalar(select(func.sum(RoundTile.measured_seconds)).where(RoundTile.round_id == row.id)) or 0.0


def keep_left_out(row: RoundRow, tiles: int) -> None:
    """Write down how many tiles could not be chosen for they waited in rounds before, in the caller's transaction."""
    row.metrics = {**row.metrics, LEFT_OUT: tiles}


def stored_left_out(row: RoundRow) -> int:
    """How many tiles waited in rounds before when this one was chosen."""
    return int(row.metrics.get(LEFT_OUT, 0))


def keep_why_cold(row: RoundRow, why: str) -> None:
    """Write down why the newest detector had no say in the choice, in the caller's transaction."""
    row.metrics = {**row.metrics, WHY_COLD: why}


def stored_why_cold(row: RoundRow) -> str | None:
    """Why the newest detector had no say in the choice; None where it had."""
    why: str | None = row.metrics.get(WHY_COLD)
    return why


def waiting_tiles(session: Session) -> dict[int, list[int]]:
    """By number of an open round, the tiles of it that nobody has looked at; a tile of several stands with the newest.

    A round is open until one of these holds: all its tiles are reviewed, or the oracle is done with it; its budget is spent; a detector was
    fine-tuned after one of its tiles was reviewed, and so has learned from it. What is left over then can be chosen again. Tiles of audits
    are labelled, and do not wait in this sense.
    """
    trained = session.scalar(select(func.max(ModelRow.created)).where(ModelRow.stage == "finetune")) or 0.0
    found: dict[int, list[int]] = {}
    taken: set[int] = set()
    for row in reversed(rounds(session)):
        if row.strategy == AUDIT or row.state != "ranked" or _is_over(session, row, trained):
            continue
        todo = select(RoundTile.tile_id).where(RoundTile.round_id == row.id, ~exists().where(Review.tile_id == RoundTile.tile_id))
        mine = [tile_id for tile_id in session.scalars(todo.order_by(RoundTile.position)) if tile_id not in taken]
        taken |= set(mine)
        if mine:
            found[row.number] = mine
    return dict(sorted(found.items()))


def _is_over(session: Session, row: RoundRow, trained: float) -> bool:
    """Whether the round's budget is spent, or a detector that was made at ``trained`` has learned from it."""
    first = select(func.min(Review.created)).join(RoundTile, RoundTile.tile_id == Review.tile_id).where(RoundTile.round_id == row.id)
    reviewed = session.scalar(first)
    return seconds_spent(session, row) >= row.budget_seconds or (reviewed is not None and trained > reviewed)
