"""Answers that were taken back on the server where they were given: what they had changed here is put back as it was before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import visible_share
from engine.catalog import ledger
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE
from engine.catalog.reviews import REVIEW
from engine.catalog.rounds import AUDIT
from engine.catalog.schema import Annotation, LedgerEvent, Review, RoundRow, RoundTile, Tile
from engine.catalog.tiles import window_of

__all__ = ["WITHDRAWAL", "Withdrawn", "saved_here_since", "withdraw"]

WITHDRAWAL = "withdrawal"
"""The ledger's kind of event."""


@dataclass(frozen=True)
class Withdrawn:
    """What taking an answer back changed, in boxes; ``kept``: nothing, for somebody else saved the tile afterwards."""

    removed: int = 0
    restored: int = 0
    left: int = 0
    kept: bool = False


@dataclass(frozen=True)
class _Change:
    """A box that answers drew or changed: its version afterwards, what it was before (None where it was not there), their first event."""

    annotation: int
    version: int
    before: dict[str, Any] | None
    since: int


def saved_here_since(session: Session, tile_id: int, origin: str) -> bool:
    """Whether somebody else saved the tile after the last answer of ``origin`` was taken in."""
    events = _events(session, REVIEW, tile_id)
    ours = [event.id for event in events if event.details.get("origin") == origin]
    return bool(ours) and events[-1].id > ours[-1]


def withdraw(session: Session, tile_id: int, origin: str) -> Withdrawn | None:
    """Put back what the answers of ``origin`` changed on a tile, in the caller's transaction; the ledger keeps what is undone.

    Boxes that they drew are marked deleted, boxes that they moved, relabelled or deleted become what they were, and the tile's review
    becomes the one before them, or none. A box that was changed since, or that a later review of another tile shows, is left as it is.
    Where somebody else saved the tile afterwards, in the browser or through another task, nothing is changed.

    Args:
        session: an open transaction that may write.
        tile_id: the tile.
        origin: as it was given to :func:`engine.catalog.reviews.save_review`.

    Returns:
        What changed; None where nothing of ``origin`` stands.
    """
    since = max((event.id for event in _events(session, WITHDRAWAL, tile_id) if event.details["origin"] == origin), default=0)
    events = _events(session, REVIEW, tile_id)
    if not any(event.details.get("origin") == origin and event.id > since for event in events):
        return None
    run: list[LedgerEvent] = []
    while events and events[-1].id > since and events[-1].details.get("origin") == origin:
        run.insert(0, events.pop())
    if not run:
        return Withdrawn(kept=True)
    scene_id = session.get_one(Tile, tile_id).scene_id
    earlier = [event for event in ledger.events(session, WITHDRAWAL) if event.details["scene"] == scene_id]
    left_earlier = [_Change(**left) for event in earlier for left in event.details["left"]]
    left = []
    counts = {"removed": 0, "restored": 0}
    _restore_review(session, tile_id, run[0].details["reviewed_before"])
    for change in [*_changes(run), *left_earlier]:
        row = session.get(Annotation, change.annotation)
        if row is None or row.version != change.version:
            continue
        if _stands_elsewhere(session, row, tile_id, change.since):
            left.append(change)
        elif change.before is not None:
            row.x1, row.y1, row.x2, row.y2 = change.before["box"]
            row.label, row.state, row.version = change.before["label"], "accepted", row.version + 1
            counts["restored"] += 1
        elif row.state != "deleted":
            row.state, row.version = "deleted", row.version + 1
            counts["removed"] += 1
    documents = [asdict(change) for change in left if change not in left_earlier]
    ledger.record(session, WITHDRAWAL, tile=tile_id, scene=scene_id, origin=origin, **counts, left=documents)
    session.flush()
    return Withdrawn(counts["removed"], counts["restored"], left=len(documents))


def _events(session: Session, kind: str, tile_id: int) -> list[LedgerEvent]:
    wanted = (LedgerEvent.kind == kind, LedgerEvent.details["tile"].as_integer() == tile_id)
    return list(session.scalars(select(LedgerEvent).where(*wanted).order_by(LedgerEvent.id)))


def _changes(run: Sequence[LedgerEvent]) -> list[_Change]:
    """The net change of each box over a run of reviews."""
    before: dict[int, dict[str, Any] | None] = {}
    version: dict[int, int] = {}
    for event in run:
        for number in event.details["new"]:
            before[number], version[number] = None, 1
        for document in event.details["before"]:
            before.setdefault(document["annotation"], document)
            version[document["annotation"]] = document["version"] + 1
    return [_Change(number, version[number], document, run[0].id) for number, document in before.items()]


def _stands_elsewhere(session: Session, row: Annotation, tile_id: int, since: int) -> bool:
    """Whether another tile shows the place of a box, and was reviewed as complete after the event ``since``."""
    touching = (Tile.x < row.x2, Tile.x + Tile.width > row.x1, Tile.y < row.y2, Tile.y + Tile.height > row.y1)
    query = select(Tile).join(Review, Review.tile_id == Tile.id).where(Tile.scene_id == row.scene_id, Tile.id != tile_id, *touching)
    box = np.array([[row.x1, row.y1, row.x2, row.y2]])
    for tile in session.scalars(query):
        if visible_share(box, window_of(tile).xyxy)[0] >= MINIMUM_VISIBLE_SHARE:
            later = [event for event in _events(session, REVIEW, tile.id) if event.id > since and event.details["complete"]]
            if later:
                return True
    return False


def _restore_review(session: Session, tile_id: int, before: dict[str, Any] | None) -> None:
    """Make the tile's review what it was; without one its newest round is not annotated any more."""
    review = session.scalar(select(Review).where(Review.tile_id == tile_id))
    if review is not None and before is not None:
        review.by, review.seconds = before["by"], before["seconds"]
    elif review is not None:
        session.delete(review)
        query = select(RoundRow).join(RoundTile, RoundTile.round_id == RoundRow.id).where(RoundTile.tile_id == tile_id)
        newest = session.scalars(query.order_by(RoundRow.number.desc()).limit(1)).first()
        if newest is not None and newest.state == "annotated" and newest.strategy != AUDIT:
            newest.state = "ranked"
    session.flush()
