"""What became of a tile's annotation: who saved what, when, from where, and the boxes as they were then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import Boxes, visible_share
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE
from engine.catalog.decisions import DECIDED
from engine.catalog.decisions import SOURCE as SEARCHED
from engine.catalog.reviews import REVIEW, tile_state
from engine.catalog.schema import Annotation, LedgerEvent, SearchHit
from engine.catalog.tiles import TileRecord
from engine.catalog.withdrawals import WITHDRAWAL
from engine.errors import BadInput

__all__ = ["BEFORE", "TileVersion", "tile_history", "version_boxes"]

BEFORE = 0
"""Number of the version that the first save found."""
COUNTS = ("added", "moved", "relabelled", "removed")


@dataclass(frozen=True)
class TileVersion:
    """Something that was done to a tile's boxes.

    ``number``: by which its boxes are found again, None where they are not known; ``at``: UTC seconds, None where unknown; ``by``: the
    person, file or server; ``source``: where they did it; ``act``: what they did, in words; ``boxes``: how many there were afterwards;
    ``changes``: how many boxes were added, moved, relabelled and removed.
    """

    number: int | None
    at: float | None
    by: str
    source: str
    act: str
    boxes: int | None = None
    changes: Mapping[str, int] = field(default_factory=dict)


def tile_history(session: Session, tile_id: int) -> list[TileVersion]:
    """Everything that was done to a tile, the newest first: saved, decided on the page Find, brought in by a file.

    Raises:
        BadInput: no such tile, or one that belongs to no split.
    """
    tile = tile_state(session, tile_id).tile
    saves = _saves(session, tile_id)
    found = [*(_saved(event) for event in saves), *_decided(session, tile_id), *_withdrawn(session, tile_id), *_brought(session, tile)]
    found.sort(key=lambda version: (version.at or 0.0, version.number or 0), reverse=True)
    if saves and "after" in saves[0].details:
        found.append(TileVersion(BEFORE, None, "", "", "as the first save found it", boxes=len(_found_by(saves[0]))))
    return found


def version_boxes(session: Session, tile_id: int, number: int) -> Boxes:
    """The boxes of a version, in tile pixels.

    Raises:
        BadInput: no such tile, or no such version of it whose boxes are known.
    """
    tile = tile_state(session, tile_id).tile
    saves = [event for event in _saves(session, tile_id) if "after" in event.details]
    if number == BEFORE and saves and saves[0].id == _saves(session, tile_id)[0].id:
        return _in_tile(_found_by(saves[0]), tile)
    for event in saves:
        if event.id == number:
            return _in_tile(event.details["after"], tile)
    raise BadInput(f"no version {number} of tile {tile_id} whose boxes are known", remedy="Take one of the tile's history")


def _saves(session: Session, tile_id: int) -> list[LedgerEvent]:
    query = select(LedgerEvent).where(LedgerEvent.kind == REVIEW, LedgerEvent.details["tile"].as_integer() == tile_id)
    return list(session.scalars(query.order_by(LedgerEvent.id)))


def _saved(event: LedgerEvent) -> TileVersion:
    said = event.details
    known = "after" in said
    act = "saved as complete" if said["complete"] else "saved"
    return TileVersion(
        number=event.id if known else None,
        at=event.at,
        by=said["annotator"] or said["source"],
        source=said["source"],
        act=act,
        boxes=len(said["after"]) if known else None,
        changes={name: said[name] for name in COUNTS if said[name]},
    )


def _decided(session: Session, tile_id: int) -> Iterable[TileVersion]:
    """What was said of look-alikes on the tile."""
    hits = list(session.scalars(select(SearchHit.id).where(SearchHit.tile_id == tile_id)))
    if not hits:
        return
    query = select(LedgerEvent).where(LedgerEvent.kind == DECIDED, LedgerEvent.details["hit"].as_integer().in_(hits))
    for event in session.scalars(query.order_by(LedgerEvent.id)):
        said = event.details
        act = "took a decision on a look-alike back" if "undoes" in said else f"said {said['decision']} to a look-alike"
        yield TileVersion(None, event.at, said["annotator"], f"search {said['search']}", act)


def _withdrawn(session: Session, tile_id: int) -> Iterable[TileVersion]:
    """Answers that were deleted on the server where they were given."""
    query = select(LedgerEvent).where(LedgerEvent.kind == WITHDRAWAL, LedgerEvent.details["tile"].as_integer() == tile_id)
    for event in session.scalars(query.order_by(LedgerEvent.id)):
        changes = {name: event.details[name] for name in ("removed", "restored") if event.details[name]}
        yield TileVersion(None, event.at, event.details["origin"], event.details["origin"], "answer deleted there", changes=changes)


def _brought(session: Session, tile: TileRecord) -> Iterable[TileVersion]:
    """The files and servers that boxes on the tile came from, whatever became of them since."""
    drawn = {event.details["source"] for event in _saves(session, tile.id)} | {SEARCHED}
    rows = [row for row in session.scalars(select(Annotation).where(Annotation.scene_id == tile.scene_id)) if row.source not in drawn]
    xyxy = np.asarray([(row.x1, row.y1, row.x2, row.y2) for row in rows if row.state != "withheld"], dtype=np.float64).reshape(-1, 4)
    seen = visible_share(xyxy, tile.window.xyxy) >= MINIMUM_VISIBLE_SHARE
    shown = [row for row, here in zip((row for row in rows if row.state != "withheld"), seen.tolist(), strict=True) if here]
    for source in sorted({row.source for row in shown}):
        mine = [row for row in shown if row.source == source]
        yield TileVersion(None, min(row.created for row in mine), source, source, "brought in", changes={"added": len(mine)})


def _found_by(first: LedgerEvent) -> list[dict[str, Any]]:
    """What the first save found: what it left, without what was new, and what it changed as it was before."""
    said = first.details
    changed = {each["annotation"]: each for each in said["before"]}
    left = [each for each in said["after"] if each["annotation"] not in {*said["new"], *changed}]
    return sorted([*left, *changed.values()], key=lambda each: each["annotation"])


def _in_tile(documents: Sequence[Mapping[str, Any]], tile: TileRecord) -> Boxes:
    x1, y1, x2, y2 = tile.window.xyxy
    xyxy = np.asarray([each["box"] for each in documents], dtype=np.float64).reshape(-1, 4)
    labels = np.asarray([each["label"] for each in documents], dtype=np.int64)
    return Boxes(np.clip(xyxy, [x1, y1, x1, y1], [x2, y2, x2, y2]), labels).shifted(-x1, -y1)
