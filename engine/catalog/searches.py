"""Searches for look-alikes, and their hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.catalog.schema import ModelRow, Search, SearchHit
from engine.catalog.tiles import TileRecord, tiles
from engine.errors import BadInput

__all__ = ["Decision", "FoundHit", "HitRecord", "SearchRecord", "add_search", "hit_record", "hits", "hits_on", "searches"]

Box = tuple[float, float, float, float]
Decision = Literal["yes", "no"]


@dataclass(frozen=True)
class FoundHit:
    """A look-alike before it is stored: its tile, its box in tile pixels, its score."""

    tile_id: int
    box_tile: Box
    score: float


@dataclass(frozen=True)
class SearchRecord:
    """A search: the box that was drawn, in tile pixels, the model that looked, and how many hits there are and were decided."""

    id: int
    fingerprint: str
    tile_id: int
    box_tile: Box
    model: str
    created: float
    hits: int
    yes: int
    no: int


@dataclass(frozen=True)
class HitRecord:
    """A look-alike; ``position`` counts from 0, the best first, and ``score`` falls along it."""

    id: int
    search_id: int
    position: int
    score: float
    tile: TileRecord
    box_tile: Box
    decision: Decision | None
    annotation_id: int | None
    """the accepted box that a yes made or meant"""


def add_search(
    session: Session, *, fingerprint: str, tile_id: int, box_tile: Box, model_id: int, config: Mapping[str, Any], found: Sequence[FoundHit]
) -> int:
    """Store a finished search with its hits, the best first, and return its id.

    Args:
        session: an open transaction that may write.
        fingerprint: of everything that the answer depends on; one search each.
        tile_id: the tile on which the box was drawn.
        box_tile: that box.
        model_id: row of the model that looked.
        config: JSON-ready.
        found: the look-alikes in their order.
    """
    x1, y1, x2, y2 = box_tile
    row = Search(tile_id=tile_id, x1_tile=x1, y1_tile=y1, x2_tile=x2, y2_tile=y2, model_id=model_id, config=dict(config))
    row.fingerprint = fingerprint
    session.add(row)
    session.flush()
    for position, hit in enumerate(found):
        x1, y1, x2, y2 = hit.box_tile
        stored = SearchHit(search_id=row.id, tile_id=hit.tile_id, position=position, score=hit.score)
        stored.x1_tile, stored.y1_tile, stored.x2_tile, stored.y2_tile = x1, y1, x2, y2
        session.add(stored)
    session.flush()
    return row.id


def searches(session: Session, *, fingerprint: str | None = None) -> list[SearchRecord]:
    """All searches in the order of their making, or the one with that fingerprint, if there is one."""
    counts: dict[tuple[int, str | None], int] = {
        (search_id, decision): count
        for search_id, decision, count in session.execute(
            select(SearchHit.search_id, SearchHit.decision, func.count()).group_by(SearchHit.search_id, SearchHit.decision)
        )
    }
    query = select(Search, ModelRow.name).join(ModelRow, ModelRow.id == Search.model_id).order_by(Search.id)
    if fingerprint is not None:
        query = query.where(Search.fingerprint == fingerprint)
    found = []
    for row, model in session.execute(query):
        of_search = [counts.get((row.id, decision), 0) for decision in (None, "yes", "no")]
        box = (row.x1_tile, row.y1_tile, row.x2_tile, row.y2_tile)
        found.append(
            SearchRecord(row.id, row.fingerprint, row.tile_id, box, model, row.created, sum(of_search), of_search[1], of_search[2])
        )
    return found


def hits(session: Session, search_id: int) -> list[HitRecord]:
    """The look-alikes of a search, the best first.

    Raises:
        BadInput: no such search.
    """
    if session.get(Search, search_id) is None:
        raise BadInput(f"no search {search_id}", remedy="Take a number from `tilehawk search --json`, or search again")
    rows = list(session.scalars(select(SearchHit).where(SearchHit.search_id == search_id).order_by(SearchHit.position)))
    known = {tile.id: tile for tile in tiles(session, ids=[row.tile_id for row in rows])}
    return [hit_record(row, known[row.tile_id]) for row in rows if row.tile_id in known]


def hits_on(session: Session, tile_id: int, hit_ids: Sequence[int]) -> list[int]:
    """Those of the hits that are still there and lie on the tile, in the order given."""
    query = select(SearchHit.id).where(SearchHit.tile_id == tile_id, SearchHit.id.in_(hit_ids))
    there = set(session.scalars(query))
    return [hit for hit in hit_ids if hit in there]


def hit_record(row: SearchHit, tile: TileRecord) -> HitRecord:
    """A row of the catalog with its tile."""
    box = (row.x1_tile, row.y1_tile, row.x2_tile, row.y2_tile)
    decision = cast("Decision | None", row.decision)
    return HitRecord(row.id, row.search_id, row.position, row.score, tile, box, decision, row.annotation_id)
