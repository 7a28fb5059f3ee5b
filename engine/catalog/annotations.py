"""Boxes, reviews and the label set, as the stages read and write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import Boxes, visible_share
from engine.catalog.schema import Annotation, LabelSetRow, Review
from engine.catalog.tiles import TileRecord, chunks
from engine.errors import BadInput
from engine.label_set import LabelSet

__all__ = [
    "MINIMUM_VISIBLE_SHARE",
    "accept_withheld",
    "label_set",
    "mark_reviewed",
    "scene_boxes",
    "set_label_set",
    "tile_boxes",
]

MINIMUM_VISIBLE_SHARE = 0.4


def label_set(session: Session) -> LabelSet:
    """The workspace's classes.

    Raises:
        BadInput: there are none yet.
    """
    row = session.get(LabelSetRow, 1)
    if row is None:
        raise BadInput("this workspace has no classes yet", remedy="Bring labels in: tilehawk labels import FILE")
    return LabelSet.of(row.names)


def set_label_set(session: Session, names: Iterable[str]) -> LabelSet:
    """Fix the workspace's classes and their order; the same set once more changes nothing.

    Raises:
        BadInput: no name, an empty one, or one that stands twice.
        LabelSetMismatch: the workspace has other classes already.
    """
    wanted = LabelSet.of(names)
    if not len(wanted):
        raise BadInput("an empty list of classes", expected="one class at least", remedy="Name the classes")
    if session.get(LabelSetRow, 1) is not None:
        label_set(session).require_equal(wanted, ours="this workspace", theirs="the list given")
        return wanted
    session.add(LabelSetRow(id=1, names=list(wanted.names), fingerprint=wanted.fingerprint))
    session.flush()
    return wanted


def scene_boxes(session: Session, scene_id: int, states: Sequence[str] = ("accepted",)) -> Boxes:
    """The boxes of a scene in scene pixels, by annotation id."""
    return _boxes_by_scene(session, [scene_id], states)[scene_id]


def tile_boxes(session: Session, tiles: Sequence[TileRecord], states: Sequence[str] = ("accepted",)) -> dict[int, Boxes]:
    """By tile id, the boxes of which at least :data:`MINIMUM_VISIBLE_SHARE` lies in the tile, clipped to it, in tile pixels."""
    by_scene = _boxes_by_scene(session, sorted({tile.scene_id for tile in tiles}), states)
    return {
        tile.id: by_scene[tile.scene_id].visible_in(tile.window.xyxy, MINIMUM_VISIBLE_SHARE).shifted(-tile.window.x, -tile.window.y)
        for tile in tiles
    }


def mark_reviewed(session: Session, tile_ids: Iterable[int], *, by: str, seconds: float | None = None) -> int:
    """Note that what is annotated on these tiles is all of it; returns how many were not reviewed before.

    Args:
        session: an open transaction.
        tile_ids: a tile reviewed earlier keeps its first review.
        by: the person, file or oracle that looked.
        seconds: spent on each tile, where known.
    """
    wanted = sorted(set(tile_ids))
    done = {found for chunk in chunks(wanted) for found in session.scalars(select(Review.tile_id).where(Review.tile_id.in_(chunk)))}
    fresh = [Review(tile_id=tile_id, by=by, seconds=seconds) for tile_id in wanted if tile_id not in done]
    session.add_all(fresh)
    session.flush()
    return len(fresh)


def accept_withheld(session: Session, tile: TileRecord, *, annotator: str) -> int:
    """Show the withheld boxes of which at least :data:`MINIMUM_VISIBLE_SHARE` lies in ``tile``; returns how many.

    Args:
        session: an open transaction.
        tile: the tile that was paid for.
        annotator: who shows them.
    """
    query = select(Annotation).where(Annotation.scene_id == tile.scene_id, Annotation.state == "withheld").order_by(Annotation.id)
    withheld = list(session.scalars(query))
    xyxy = np.asarray([(row.x1, row.y1, row.x2, row.y2) for row in withheld], dtype=np.float64).reshape(-1, 4)
    seen = np.flatnonzero(visible_share(xyxy, tile.window.xyxy) >= MINIMUM_VISIBLE_SHARE).tolist()
    for index in seen:
        row = withheld[index]
        row.state, row.annotator = "accepted", annotator
        row.version += 1
    session.flush()
    return len(seen)


def _boxes_by_scene(session: Session, scene_ids: Sequence[int], states: Sequence[str]) -> dict[int, Boxes]:
    coordinates: dict[int, list[tuple[float, float, float, float]]] = {scene_id: [] for scene_id in scene_ids}
    labels: dict[int, list[int]] = {scene_id: [] for scene_id in scene_ids}
    columns = (Annotation.scene_id, Annotation.x1, Annotation.y1, Annotation.x2, Annotation.y2, Annotation.label)
    for chunk in chunks(scene_ids):
        query = select(*columns).where(Annotation.scene_id.in_(chunk), Annotation.state.in_(states)).order_by(Annotation.id)
        for scene_id, x1, y1, x2, y2, label in session.execute(query):
            coordinates[scene_id].append((x1, y1, x2, y2))
            labels[scene_id].append(label)
    return {
        scene_id: Boxes(np.asarray(coordinates[scene_id], dtype=np.float64), np.asarray(labels[scene_id], dtype=np.int64))
        for scene_id in scene_ids
    }
