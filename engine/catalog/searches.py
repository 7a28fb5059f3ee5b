"""Searches for look-alikes, their hits, and what people said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.boxes import box_iou
from engine.catalog import ledger
from engine.catalog.schema import Annotation, LabelSetRow, LedgerEvent, ModelRow, Scene, Search, SearchHit
from engine.catalog.tiles import TileRecord, tiles
from engine.errors import BadInput, UsageError

__all__ = ["SAME_OBJECT_IOU", "SOURCE", "Decision", "FoundHit", "HitRecord", "SearchRecord", "add_search", "decide", "hits", "searches"]

SOURCE = "search"
"""``source`` of the annotations that a yes makes."""
SAME_OBJECT_IOU = 0.7
"""A yes to a box that overlaps an accepted one of the same class by this much means that one."""
DECIDED = "search-decision"

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
    return [_record(row, known[row.tile_id]) for row in rows if row.tile_id in known]


def decide(session: Session, hit_id: int, *, accept: bool, label: int | None, annotator: str) -> HitRecord:
    """Say whether a hit is one of those sought; saying the same again changes nothing.

    A yes makes an accepted annotation, or means the one that is there already: same class, IoU of :data:`SAME_OBJECT_IOU` or more. A no
    takes back what a search's yes made, as long as nobody has changed it since and no other hit means it; it never touches other boxes.

    Args:
        session: an open transaction that may write.
        hit_id: of the hit.
        accept: yes or no.
        label: class number of the object; needed for a yes. Another class than before relabels what this hit made.
        annotator: who says so.

    Raises:
        BadInput: no such hit, or a class that the workspace does not have.
        UsageError: a yes without a class.
    """
    row = session.get(SearchHit, hit_id)
    tile = next(iter(tiles(session, ids=[row.tile_id])), None) if row else None
    if row is None or tile is None:
        raise BadInput(f"no look-alike {hit_id}", remedy="Open the search again")
    if accept:
        _accept(session, row, tile, _known_label(session, label), annotator)
    elif row.decision != "no":
        taken_back = _take_back(session, row, annotator)
        row.decision, row.annotation_id = "no", None
        ledger.record(session, DECIDED, search=row.search_id, hit=row.id, decision="no", annotator=annotator, taken_back=taken_back)
    session.flush()
    return _record(row, tile)


def _record(row: SearchHit, tile: TileRecord) -> HitRecord:
    box = (row.x1_tile, row.y1_tile, row.x2_tile, row.y2_tile)
    decision = cast("Decision | None", row.decision)
    return HitRecord(row.id, row.search_id, row.position, row.score, tile, box, decision, row.annotation_id)


def _known_label(session: Session, label: int | None) -> int:
    if label is None:
        raise UsageError("a yes without a class", expected="the number of a class", remedy="Choose what a yes is")
    names = session.get(LabelSetRow, 1)
    classes = len(names.names) if names else 0
    if not 0 <= label < classes:
        raise BadInput(f"the class number {label}", expected=f"one of the workspace's {classes} classes", remedy="Choose a class")
    return label


def _accept(session: Session, row: SearchHit, tile: TileRecord, label: int, annotator: str) -> None:
    meant = session.get(Annotation, row.annotation_id) if row.annotation_id is not None else None
    if row.decision == "yes" and meant is not None and meant.state == "accepted" and meant.label == label:
        return
    _take_back(session, row, annotator)
    box = _in_scene(session, row, tile)
    found = _same_object(session, tile.scene_id, box, label)
    if found is None:
        x1, y1, x2, y2 = box
        found = Annotation(scene_id=tile.scene_id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source=SOURCE, annotator=annotator)
        session.add(found)
        session.flush()
        made = True
    else:
        made = False
    row.decision, row.annotation_id = "yes", found.id
    details = {"search": row.search_id, "hit": row.id, "annotation": found.id, "version": found.version, "made": made}
    ledger.record(session, DECIDED, decision="yes", annotator=annotator, **details)


def _in_scene(session: Session, row: SearchHit, tile: TileRecord) -> Box:
    """The hit's box in scene pixels, clipped to the scene."""
    scene = session.get_one(Scene, tile.scene_id)
    x, y = tile.window.x, tile.window.y
    shifted = [row.x1_tile + x, row.y1_tile + y, row.x2_tile + x, row.y2_tile + y]
    x1, y1, x2, y2 = np.clip(shifted, 0, [scene.width, scene.height] * 2).tolist()
    if x2 <= x1 or y2 <= y1:
        raise BadInput(f"look-alike {row.id} lies outside its scene", remedy="Search again")
    return x1, y1, x2, y2


def _same_object(session: Session, scene_id: int, box: Box, label: int) -> Annotation | None:
    """The accepted annotation of that class that overlaps ``box`` most, if it does by :data:`SAME_OBJECT_IOU`."""
    query = select(Annotation).where(Annotation.scene_id == scene_id, Annotation.state == "accepted", Annotation.label == label)
    rows = list(session.scalars(query.order_by(Annotation.id)))
    if not rows:
        return None
    overlap = box_iou(np.asarray([box]), np.asarray([(row.x1, row.y1, row.x2, row.y2) for row in rows], dtype=np.float64))[0]
    best = int(overlap.argmax())
    return rows[best] if overlap[best] >= SAME_OBJECT_IOU else None


def _take_back(session: Session, row: SearchHit, annotator: str) -> int | None:
    """Delete what this hit means, if a search made it, nobody changed it since and no other hit means it; return its id."""
    if row.decision != "yes" or row.annotation_id is None:
        return None
    made = session.get_one(Annotation, row.annotation_id)
    says = LedgerEvent.details
    query = select(LedgerEvent).where(LedgerEvent.kind == DECIDED, says["annotation"].as_integer() == made.id)
    events = list(session.scalars(query.order_by(LedgerEvent.id)))
    others = session.scalar(select(func.count()).where(SearchHit.annotation_id == made.id, SearchHit.id != row.id))
    if made.state != "accepted" or others or not any(each.details["made"] and each.details["version"] == made.version for each in events):
        return None
    made.state, made.annotator, made.version = "deleted", annotator, made.version + 1
    return made.id
