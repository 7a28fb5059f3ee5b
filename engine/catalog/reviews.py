"""What a person says of a tile: its boxes as they should be, and whether that is all of them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, exists, func, insert, select
from sqlalchemy.orm import Session

from engine.boxes import Boxes, box_iou, visible_share
from engine.catalog import ledger
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE
from engine.catalog.rounds import AUDIT, round_tiles, rounds, seconds_spent, tile_links
from engine.catalog.schema import Annotation, LabelSetRow, Review, RoundRow, RoundTile
from engine.catalog.tiles import TileRecord, chunks, tiles
from engine.catalog.visits import MeasuredVisit, Opening, record_visit
from engine.errors import BadInput, StaleReview

__all__ = [
    "REVIEW",
    "SAME_EDGE_PIXELS",
    "SAME_OBJECT_IOU",
    "ReviewBatch",
    "SavedReview",
    "TileState",
    "review_queue",
    "save_review",
    "tile_state",
]

SAME_EDGE_PIXELS = 0.05
"""An edge that moved by less is where it was: drawing surfaces scale coordinates back and forth."""
SAME_OBJECT_IOU = 0.3
"""A drawn box that overlaps an earlier one by this much is that object, moved; below it, another object."""
SMALLEST_SIDE_PIXELS = 1.0
ROUNDING_PIXELS = 1.0
"""More than coordinates of any scene are rounded by."""
TOUCHING = (
    select(Annotation)
    .where(Annotation.scene_id == bindparam("scene"), Annotation.state == "accepted", Annotation.y1 > bindparam("strip"))
    .where(Annotation.x1 < bindparam("right"), Annotation.x2 > bindparam("left"))
    .where(Annotation.y1 < bindparam("bottom"), Annotation.y2 > bindparam("top"))
    .order_by(Annotation.id)
)
"""Accepted annotations that reach into a window and begin below a strip's upper edge; put together once, for it is asked of each tile."""
REVIEW = "review"
"""Kind of the ledger's events of saved tiles: what was changed as it was ``before``, what was there ``after``, which of it is ``new``."""


@dataclass(frozen=True)
class TileState:
    """A tile as it is annotated now; ``version`` changes with every change of its boxes or its review."""

    tile: TileRecord
    boxes_tile: Boxes
    version: str
    reviewed: bool
    by: str | None
    """who looked at it last"""


@dataclass(frozen=True)
class SavedReview:
    """What saving a tile changed, in boxes, and the tile's version afterwards."""

    added: int
    moved: int
    relabelled: int
    removed: int
    unchanged: int
    version: str


class ReviewBatch:
    """Tiles that are saved in one transaction: what is known of them is asked for once, and their rounds are summed up once, at the end.

    Args:
        session: the open transaction that may write.
        tile_ids: of the tiles that may be saved; unknown ids are left out.
    """

    def __init__(self, session: Session, tile_ids: Sequence[int]) -> None:
        self._session = session
        self._tiles: dict[int, TileRecord] = {}
        self._links: dict[int, list[RoundTile]] = {}
        self._unsettled: set[int] = set()
        self._tallest: dict[int, float] = {}
        self._audits = {row.id for row in rounds(session) if row.strategy == AUDIT}
        named = session.get(LabelSetRow, 1)
        self.classes = len(named.names) if named else 0
        """how many the workspace has"""
        self.reviews: dict[int, Review] = {}
        """of the tiles that somebody looked at"""
        self.read(tile_ids)

    def read(self, tile_ids: Sequence[int]) -> None:
        """Ask for more tiles, or again for those that something else than saving changed."""
        found = {tile.id: tile for tile in tiles(self._session, ids=tile_ids)}
        self._tiles |= found
        self._tallest.clear()
        self._links |= tile_links(self._session, sorted(found))
        asked = [select(Review).where(Review.tile_id.in_(chunk)) for chunk in chunks(sorted(found))]
        reviews = {review.tile_id: review for query in asked for review in self._session.scalars(query)}
        self.reviews = {tile_id: review for tile_id, review in self.reviews.items() if tile_id not in found} | reviews

    def __contains__(self, tile_id: int) -> bool:
        return tile_id in self._tiles

    def tile(self, tile_id: int) -> TileRecord:
        """The tile.

        Raises:
            BadInput: no such tile, or one that belongs to no split.
        """
        return _known(tile_id, self._tiles)

    def tallest(self, scene_id: int) -> float:
        """Height in pixels that no accepted annotation of the scene exceeds."""
        if scene_id not in self._tallest:
            query = select(func.max(Annotation.y2 - Annotation.y1))
            found = self._session.scalar(query.where(Annotation.scene_id == scene_id, Annotation.state == "accepted"))
            self._tallest[scene_id] = float(found or 0.0)
        return self._tallest[scene_id]

    def write_changed(self, annotations: Sequence[Annotation]) -> None:
        """Write what was changed, for the next tile may show the same annotations, and asks for them by their place."""
        self._session.flush()
        self._note_heights(annotations)

    def insert(self, rows: Sequence[dict[str, Any]]) -> list[Annotation]:
        """New annotations by id, inserted by one statement."""
        if not rows:
            return []
        with self._session.no_autoflush:
            made = sorted(self._session.scalars(insert(Annotation).returning(Annotation), rows), key=lambda row: row.id)
        self._note_heights(made)
        return made

    def _note_heights(self, annotations: Sequence[Annotation]) -> None:
        for row in annotations:
            if row.scene_id in self._tallest:
                self._tallest[row.scene_id] = max(self._tallest[row.scene_id], row.y2 - row.y1)

    def charge(self, tile_id: int, seconds: float | None, *, in_all: bool, complete: bool) -> None:
        """Count the seconds for the newest round that chose the tile, before the review itself is written.

        Of seconds ``in_all``, only those count that are not counted already: for an earlier round, or before an audit.
        """
        if tile_id not in self._links:
            return
        *earlier, link = self._links[tile_id]
        audited = link.round_id in self._audits
        if in_all and seconds is not None:
            counted = sum(each.measured_seconds or 0.0 for each in earlier)
            if audited and tile_id in self.reviews:
                counted = max(counted, (self.reviews[tile_id].seconds or 0.0) - (link.measured_seconds or 0.0))
            seconds = max(seconds - counted, 0.0)
        link.measured_seconds = _sum(link.measured_seconds, seconds, in_all=in_all)
        if complete and link.measured_seconds is None and audited:
            link.measured_seconds = 0.0
        self._unsettled.add(link.round_id)

    def settle_rounds(self) -> None:
        """Sum up what the tiles of rounds took, and close the rounds whose tiles are all done."""
        self._session.flush()
        for number in self._unsettled:
            row = self._session.get_one(RoundRow, number)
            row.measured_seconds = seconds_spent(self._session, row) or row.measured_seconds
            if row.state == "ranked":
                todo = select(RoundTile.tile_id).where(RoundTile.round_id == number)
                if row.strategy == AUDIT:
                    todo = todo.where(RoundTile.measured_seconds.is_(None))
                else:
                    todo = todo.where(~exists().where(Review.tile_id == RoundTile.tile_id))
                if self._session.scalar(todo.limit(1)) is None:
                    row.state = "annotated"
        self._unsettled.clear()


def tile_state(session: Session, tile_id: int) -> TileState:
    """The tile with its accepted boxes, clipped to it.

    Raises:
        BadInput: no such tile, or one that belongs to no split.
    """
    tile = _tile(session, tile_id)
    rows, shown = _shown(session, tile)
    review = session.scalar(select(Review).where(Review.tile_id == tile_id))
    boxes = Boxes(shown, np.asarray([row.label for row in rows], dtype=np.int64)).shifted(-tile.window.x, -tile.window.y)
    return TileState(tile, boxes, _version(rows, review), review is not None, None if review is None else review.by)


def review_queue(session: Session, *, round_number: int | None = None, limit: int = 100) -> list[TileRecord]:
    """Tiles that wait for a person, the most worthwhile first: those of the rounds in their order, the newest round first.

    The tiles of an audit wait too, though they are reviewed, until somebody has looked again.

    Args:
        session: an open transaction.
        round_number: only tiles of this round; without it, train tiles of no round follow those of the rounds.
        limit: how many at most.
    """
    known = {tile.id: tile for tile in tiles(session, reviewed=False)}
    order: list[int] = []
    for row in reversed(rounds(session)):
        if round_number in (None, row.number):
            links = round_tiles(session, row)
            order += [link.tile_id for link in links]
            if row.strategy == AUDIT:
                again = [link.tile_id for link in links if link.measured_seconds is None]
                known |= {tile.id: tile for tile in tiles(session, ids=again)}
    if round_number is None:
        order += [tile.id for tile in known.values() if tile.split == "train"]
    return [known[tile_id] for tile_id in dict.fromkeys(order) if tile_id in known][:limit]


def save_review(
    session: Session,
    tile_id: int,
    drawn: Boxes,
    *,
    source: str,
    annotator: str | None,
    seconds: float | None,
    complete: bool,
    expected_version: str | None = None,
    seconds_in_all: bool = False,
    opening: Opening | None = None,
    origin: str | None = None,
    batch: ReviewBatch | None = None,
) -> SavedReview:
    """Make the accepted boxes of a tile those that were drawn, in the caller's transaction.

    A box that is where it was keeps its row, and the part of it that lies outside the tile. One that was moved or relabelled keeps its
    row too, with the next version; an edge that was not moved stays where it was, outside the tile perhaps. A box that is gone is marked
    deleted; the ledger keeps what it was. What is withheld stays withheld.

    Args:
        session: an open transaction that may write.
        tile_id: of a tile that belongs to a split.
        drawn: in tile pixels; what lies outside the tile is cut off.
        source: where new boxes come from, for example ``browser``.
        annotator: who drew them.
        seconds: what the work took, counted for the tile's round; None where unknown.
        complete: these boxes are all there is, none included: the tile counts as reviewed.
        expected_version: the version that the person saw; None overwrites whatever is there.
        seconds_in_all: ``seconds`` are those of all work on the tile, not of this save alone.
        opening: what the person found there; with it a complete tile's acts and seconds are kept for the cost model.
        origin: what on another server this is the answer of; by it the review can be withdrawn again.
        batch: of the tiles that are saved together; None for this tile alone, of which the round is summed up at once.

    Raises:
        BadInput: no such tile, a box outside the tile or with a side under one pixel, a label that the workspace does not have.
        StaleReview: somebody else changed the tile since; nothing is written.
    """
    known = ReviewBatch(session, [tile_id]) if batch is None else batch
    tile = known.tile(tile_id)
    wanted = _in_scene(tile, drawn, known.classes)
    with session.no_autoflush:
        rows, shown = _shown(session, tile, tallest=None if batch is None else batch.tallest(tile.scene_id))
    review = known.reviews.get(tile_id)
    version = _version(rows, review)
    if expected_version is not None and expected_version != version:
        raise StaleReview(
            f"tile {tile_id} was changed by {review.by if review else 'somebody else'} while you worked on it",
            expected="the tile as you opened it",
            remedy="Open the tile again; what you drew was not saved",
        )
    partner = _partners(wanted.xyxy, shown)
    counts = {"added": 0, "moved": 0, "relabelled": 0, "removed": 0, "unchanged": 0}
    before: list[dict[str, Any]] = []
    fresh: list[dict[str, Any]] = []
    reviewed_before = None if review is None else {"by": review.by, "seconds": review.seconds}
    for index, xyxy in enumerate(wanted.xyxy):
        label = int(wanted.labels[index])
        if index not in partner:
            x1, y1, x2, y2 = xyxy.tolist()
            fresh.append({"scene_id": tile.scene_id, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "label": label})
            counts["added"] += 1
            continue
        row = rows[partner[index]]
        moved = np.abs(xyxy - shown[partner[index]]) > SAME_EDGE_PIXELS
        if not moved.any() and row.label == label:
            counts["unchanged"] += 1
            continue
        before.append(_as_document(row))
        row.x1, row.y1, row.x2, row.y2 = np.where(moved, xyxy, [row.x1, row.y1, row.x2, row.y2]).tolist()
        counts["moved" if moved.any() else "relabelled"] += 1
        row.label, row.annotator, row.version = label, annotator, row.version + 1
    for index in sorted(set(range(len(rows))) - set(partner.values())):
        row = rows[index]
        before.append(_as_document(row))
        row.state, row.annotator, row.version = "deleted", annotator, row.version + 1
        counts["removed"] += 1
    if before:
        known.write_changed(rows)
    drawn_now = known.insert([{**each, "source": source, "annotator": annotator} for each in fresh])
    known.charge(tile_id, seconds, in_all=seconds_in_all, complete=complete)
    if complete:
        review = _marked(session, tile_id, review, by=annotator or source, seconds=seconds, in_all=seconds_in_all)
        known.reviews[tile_id] = review
    if batch is None:
        known.settle_rounds()
    if complete and opening is not None and seconds is not None:
        acts = _acts(wanted, opening.boxes_tile.shifted(tile.window.x, tile.window.y))
        record_visit(session, MeasuredVisit(tile_id, annotator or source, source, opening.seconds + seconds, **acts), in_all=seconds_in_all)
    now = _seen([*(row for row in rows if row.state == "accepted"), *drawn_now], tile)[0]
    undo = {
        "before": before,
        "after": [_as_document(row) for row in now],
        "new": [row.id for row in drawn_now],
        "reviewed_before": reviewed_before,
    }
    ledger.record(session, REVIEW, tile=tile_id, source=source, annotator=annotator, complete=complete, origin=origin, **counts, **undo)
    return SavedReview(**counts, version=_version(now, review))


def _tile(session: Session, tile_id: int) -> TileRecord:
    return _known(tile_id, {tile.id: tile for tile in tiles(session, ids=[tile_id])})


def _known(tile_id: int, found: Mapping[int, TileRecord]) -> TileRecord:
    if tile_id not in found:
        raise BadInput(f"no tile {tile_id} that can be annotated", remedy="Take a number from the pages, or from `tilehawk rank --json`")
    return found[tile_id]


def _shown(session: Session, tile: TileRecord, *, tallest: float | None = None) -> tuple[list[Annotation], NDArray[np.float64]]:
    """The accepted annotations that the tile shows, and what it shows of them (N, 4) in scene pixels.

    Where none is taller than ``tallest`` pixels, only those are looked at that begin in the strip which can reach the tile.
    """
    place = dict(zip(("left", "top", "right", "bottom"), tile.window.xyxy, strict=True))
    strip = -math.inf if tallest is None else place["top"] - tallest - ROUNDING_PIXELS
    return _seen(list(session.scalars(TOUCHING, place | {"scene": tile.scene_id, "strip": strip})), tile)


def _seen(rows: Sequence[Annotation], tile: TileRecord) -> tuple[list[Annotation], NDArray[np.float64]]:
    """Of annotations, those of which the tile shows enough, and what it shows of them."""
    x1, y1, x2, y2 = tile.window.xyxy
    xyxy = np.asarray([(row.x1, row.y1, row.x2, row.y2) for row in rows], dtype=np.float64).reshape(-1, 4)
    seen = np.flatnonzero(visible_share(xyxy, tile.window.xyxy) >= MINIMUM_VISIBLE_SHARE)
    return [rows[index] for index in seen.tolist()], np.clip(xyxy[seen], [x1, y1, x1, y1], [x2, y2, x2, y2])


def _in_scene(tile: TileRecord, drawn: Boxes, classes: int) -> Boxes:
    unknown = sorted({int(label) for label in drawn.labels if not 0 <= label < classes})
    if unknown:
        raise BadInput(f"the class number {unknown[0]}", expected=f"one of the workspace's {classes} classes", remedy="Choose a class")
    sides = [tile.window.width, tile.window.height]
    clipped = np.clip(drawn.xyxy, 0, [*sides, *sides])
    small = np.flatnonzero(((clipped[:, 2:] - clipped[:, :2]) < SMALLEST_SIDE_PIXELS).any(1))
    if len(small):
        raise BadInput(
            f"box {int(small[0]) + 1} of tile {tile.id} is {drawn.xyxy[small[0]].round(2).tolist()}",
            expected=f"a box of at least one pixel inside the tile ({sides[0]} × {sides[1]} pixels)",
            remedy="Draw it again, or delete it; nothing was saved",
        )
    return Boxes(clipped, drawn.labels).shifted(tile.window.x, tile.window.y)


def _partners(drawn: NDArray[np.float64], shown: NDArray[np.float64]) -> dict[int, int]:
    """By index of a drawn box, the index of the earlier box that it is: the assignment of the largest overlap in all."""
    from scipy.optimize import linear_sum_assignment

    overlap = box_iou(drawn, shown)
    pairs = zip(*(side.tolist() for side in linear_sum_assignment(overlap, maximize=True)), strict=True)
    return {one: other for one, other in pairs if overlap[one, other] >= SAME_OBJECT_IOU}


def _acts(drawn: Boxes, shown: Boxes) -> dict[str, int]:
    """What was done to the boxes ``shown`` so that those ``drawn`` are there."""
    pairs = np.asarray(list(_partners(drawn.xyxy, shown.xyxy).items()), dtype=np.int64).reshape(-1, 2)
    moved = (np.abs(drawn.xyxy[pairs[:, 0]] - shown.xyxy[pairs[:, 1]]) > SAME_EDGE_PIXELS).any(axis=1)
    edited = int((moved | (drawn.labels[pairs[:, 0]] != shown.labels[pairs[:, 1]])).sum())
    kept = len(pairs)
    return {"verified": kept - edited, "edited": edited, "drawn": len(drawn) - kept, "deleted": len(shown) - kept}


def _version(rows: Sequence[Annotation], review: Review | None) -> str:
    document = repr([(row.id, row.version) for row in rows]) + repr(None if review is None else (review.by, review.seconds, review.created))
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def _as_document(row: Annotation) -> dict[str, Any]:
    return {"annotation": row.id, "version": row.version, "box": [row.x1, row.y1, row.x2, row.y2], "label": row.label}


def _marked(session: Session, tile_id: int, review: Review | None, *, by: str, seconds: float | None, in_all: bool) -> Review:
    if review is None:
        review = Review(tile_id=tile_id, by=by, seconds=seconds, created=time.time())
        session.add(review)
    else:
        review.by, review.seconds = by, _sum(review.seconds, seconds, in_all=in_all)
    return review


def _sum(earlier: float | None, seconds: float | None, *, in_all: bool) -> float | None:
    if seconds is None:
        return earlier
    return seconds if in_all else (earlier or 0.0) + seconds
