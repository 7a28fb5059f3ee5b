"""A search that goes on: what it has found so far is there to be looked at, and what somebody said of it stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import box_iou
from engine.catalog import ledger
from engine.catalog.schema import LedgerEvent, Search, SearchHit
from engine.catalog.searches import FoundHit
from engine.catalog.tiles import TileRecord, tiles

__all__ = ["finish", "is_finished", "replace_hits", "unfinished"]

FINISHED = "search"
"""The ledger's event of a search that looked everywhere."""
SAME_OBJECT_IOU = 0.3


def finish(session: Session, search_id: int, *, tile: int, model: str, hits: int) -> None:
    """Note that the search has looked everywhere."""
    ledger.record(session, FINISHED, search=search_id, tile=tile, model=model, hits=hits)


def is_finished(session: Session, search_id: int) -> bool:
    """Whether the search has looked everywhere; else it goes on, or was stopped, and the same search again goes on with it."""
    query = select(LedgerEvent.id).where(LedgerEvent.kind == FINISHED, LedgerEvent.details["search"].as_integer() == search_id)
    return session.scalar(query.limit(1)) is not None


def unfinished(session: Session, fingerprint: str) -> int | None:
    """The search of that fingerprint, if there is one that was stopped before its end."""
    found = session.scalar(select(Search.id).where(Search.fingerprint == fingerprint))
    return None if found is None or is_finished(session, found) else found


def replace_hits(session: Session, search_id: int, found: Sequence[FoundHit]) -> None:
    """Make the hits of a search those of ``found``, the best first.

    A hit on an object that was found before keeps its number, and its box where somebody has decided on it. What is not found any more
    goes, unless somebody has decided on it.
    """
    known = list(session.scalars(select(SearchHit).where(SearchHit.search_id == search_id).order_by(SearchHit.position)))
    again = _found_again(session, known, found)
    for index, row in enumerate(known):
        if row.decision is None and index not in again.values():
            session.delete(row)
    rows: list[SearchHit] = [row for index, row in enumerate(known) if row.decision is not None and index not in again.values()]
    for place, hit in enumerate(found):
        row = known[again[place]] if place in again else SearchHit(search_id=search_id)
        row.score = hit.score
        if row.decision is None:
            row.tile_id = hit.tile_id
            row.x1_tile, row.y1_tile, row.x2_tile, row.y2_tile = hit.box_tile
        rows.append(row)
    _number(session, known, sorted(rows, key=lambda row: -row.score))


def _number(session: Session, known: Sequence[SearchHit], ordered: Sequence[SearchHit]) -> None:
    """Give the rows their positions; no two may ever share one, so those that are there step aside first."""
    for index, row in enumerate(known):
        row.position = -1 - index
    session.flush()
    for position, row in enumerate(ordered):
        row.position = position
    session.add_all(ordered)
    session.flush()


def _found_again(session: Session, known: Sequence[SearchHit], found: Sequence[FoundHit]) -> dict[int, int]:
    """Places in ``found`` → places in ``known`` of the same object, each at most once; tiles overlap, so that scenes are compared."""
    if not known or not found:
        return {}
    records = {tile.id: tile for tile in tiles(session, ids=[*(row.tile_id for row in known), *(hit.tile_id for hit in found)])}
    old = [(row.tile_id, (row.x1_tile, row.y1_tile, row.x2_tile, row.y2_tile)) for row in known]
    new = [(hit.tile_id, hit.box_tile) for hit in found]
    overlap = box_iou(_in_scene(new, records), _in_scene(old, records))
    scenes = [np.asarray([records[tile].scene_id if tile in records else -1 for tile, _ in part]) for part in (new, old)]
    overlap[scenes[0][:, None] != scenes[1][None]] = 0
    again: dict[int, int] = {}
    for place in range(len(found)):
        best = int(overlap[place].argmax())
        if overlap[place, best] >= SAME_OBJECT_IOU:
            again[place] = best
            overlap[:, best] = 0
    return again


def _in_scene(part: Sequence[tuple[int, tuple[float, float, float, float]]], records: dict[int, TileRecord]) -> NDArray[np.float64]:
    boxes = np.asarray([box for _, box in part], dtype=np.float64).reshape(-1, 4)
    corners = [(records[tile].window.x, records[tile].window.y) if tile in records else (0, 0) for tile, _ in part]
    return boxes + np.tile(np.asarray(corners, dtype=np.float64).reshape(-1, 2), 2)
