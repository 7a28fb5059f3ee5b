"""What annotators did on a tile and how long it took: what the cost model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.rounds import AUDIT, round_tiles, rounds
from engine.catalog.schema import ModelRow, PredictionSet, RoundRow
from engine.selection.cost_fit import Visits
from engine.selection.cost_model import ForeseenTiles

__all__ = ["MeasuredVisit", "Opening", "as_visits", "foreseen_tiles", "measured_visits", "record_visit"]

VISIT = "visit"


@dataclass(frozen=True, eq=False)
class Opening:
    """What a person found on opening a tile, boxes in tile pixels, and the seconds of the same visit that were saved before."""

    boxes_tile: Boxes
    seconds: float = 0.0


@dataclass(frozen=True)
class MeasuredVisit:
    """A visit that left the tile complete.

    ``verified``: boxes that stayed as they were shown; ``edited``: moved or relabelled; ``drawn``: not shown; ``deleted``: shown and gone.
    """

    tile: int
    by: str
    source: str
    seconds: float
    verified: int
    edited: int
    drawn: int
    deleted: int


def record_visit(session: Session, visit: MeasuredVisit, *, in_all: bool = False) -> None:
    """Write a visit down, in the caller's transaction.

    Args:
        session: an open transaction that may write.
        visit: with its seconds and acts.
        in_all: they are those of all work on the tile at that source, and stand in the place of what was written down before.
    """
    ledger.record(session, VISIT, **asdict(visit), in_all=in_all)


def measured_visits(session: Session) -> list[MeasuredVisit]:
    """Every visit whose seconds and acts are known, in the order in which they were first made."""
    known: dict[Any, MeasuredVisit] = {}
    for event in ledger.events(session, VISIT):
        details = dict(event.details)
        key = (details["tile"], details["source"]) if details.pop("in_all") else event.id
        known[key] = MeasuredVisit(**details)
    return list(known.values())


def as_visits(visits: Sequence[MeasuredVisit]) -> Visits:
    """The visits as the cost model reads them, in their order."""
    names = ("seconds", "verified", "edited", "drawn", "deleted")
    return Visits(*(np.asarray([getattr(visit, name) for visit in visits], dtype=np.float64) for name in names))


def foreseen_tiles(session: Session, visits: Sequence[MeasuredVisit], *, detector: bool) -> ForeseenTiles:
    """The tiles of rounds that were visited, with the boxes that were expected on them, by a detector or by none.

    A tile's visit is its first one in ``visits``; a tile of several rounds belongs to the newest that is no audit: that looks at labels
    again, and foresees no boxes.
    """
    visit_of = {visit.tile: row for row, visit in reversed(list(enumerate(visits)))}
    chosen = [row for row in rounds(session) if row.strategy != AUDIT]
    newest = {link.tile_id: (row, link) for row in chosen for link in round_tiles(session, row)}
    by_detector = {row.number: _by_detector(session, row) for row in chosen}
    found = [
        (*(link.reasons["expected_boxes"][name] for name in ("sure", "medium", "missed")), row.number, visit_of[tile])
        for tile, (row, link) in newest.items()
        if tile in visit_of and by_detector[row.number] == detector and "expected_boxes" in link.reasons
    ]
    return ForeseenTiles(*(np.asarray(column) for column in zip(*found, strict=True))) if found else ForeseenTiles.none()


def _by_detector(session: Session, row: RoundRow) -> bool:
    """Whether a detector that knows the classes foresaw the round's work."""
    if row.prediction_set_id is None:
        return False
    predictions = session.get_one(PredictionSet, row.prediction_set_id)
    return session.get_one(ModelRow, predictions.model_id).stage == "finetune"
