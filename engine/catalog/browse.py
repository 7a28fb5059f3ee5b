"""The catalog page by page: tiles under a filter, and scenes with what is known of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE
from engine.catalog.schema import Annotation, Review, RoundRow, RoundTile, Scene, Tile
from engine.catalog.splits import NO_SPLIT
from engine.catalog.tiles import TileRecord, tiles
from engine.inference.overlapping import intersection_areas, overlapping_pairs

__all__ = ["ScenePage", "SceneSummary", "TilePage", "scene_page", "tile_page"]

DOWN = np.array([0.0, 1.0, 0.0, 1.0])


@dataclass(frozen=True)
class TilePage:
    """Some of the tiles under a filter, which of them somebody has looked at, and how many there are in all."""

    tiles: Sequence[TileRecord]
    reviewed: frozenset[int]
    total: int


@dataclass(frozen=True)
class SceneSummary:
    """A scene: its size in pixels, its tiles that have a split, how many of these somebody looked at, and its accepted boxes."""

    id: int
    name: str
    width: int
    height: int
    tiles: int
    reviewed: int
    boxes: int


@dataclass(frozen=True)
class ScenePage:
    """Some of the scenes under a filter, and how many there are in all."""

    scenes: Sequence[SceneSummary]
    total: int


def tile_page(
    session: Session,
    *,
    limit: int,
    offset: int = 0,
    split: str | None = None,
    reviewed: bool | None = None,
    scene: str = "",
    label: int | None = None,
    round_number: int | None = None,
) -> TilePage:
    """Tiles by id.

    Args:
        session: an open transaction.
        limit: how many at most.
        offset: how many to pass over.
        split: train, dev or test; None for all tiles that have a split.
        reviewed: only tiles that somebody looked at, or only those that nobody did.
        scene: only tiles of scenes with this part in their name, whatever its case.
        label: only tiles that show an accepted box of this class, as :func:`engine.catalog.annotations.tile_boxes` counts it.
        round_number: only tiles that this round chose.
    """
    chosen = [Tile.split != NO_SPLIT if split is None else Tile.split == split]
    if reviewed is not None:
        looked_at = exists().where(Review.tile_id == Tile.id)
        chosen.append(looked_at if reviewed else ~looked_at)
    if scene:
        chosen.append(Tile.scene_id.in_(select(Scene.id).where(_named(scene))))
    if round_number is not None:
        of_round = select(RoundTile.tile_id).join(RoundRow, RoundRow.id == RoundTile.round_id).where(RoundRow.number == round_number)
        chosen.append(Tile.id.in_(of_round))
    if label is not None:
        ids = _showing(session, label, chosen)
        total, ids = len(ids), ids[offset : offset + limit]
    else:
        total = session.scalar(select(func.count()).select_from(Tile).where(*chosen)) or 0
        ids = list(session.scalars(select(Tile.id).where(*chosen).order_by(Tile.id).limit(limit).offset(offset)))
    done = frozenset(session.scalars(select(Review.tile_id).where(Review.tile_id.in_(ids))))
    return TilePage(tiles(session, ids=ids), done, total)


def scene_page(session: Session, *, limit: int, offset: int = 0, scene: str = "") -> ScenePage:
    """Scenes by name.

    Args:
        session: an open transaction.
        limit: how many at most.
        offset: how many to pass over.
        scene: only those with this part in their name, whatever its case.
    """
    chosen = [_named(scene)] if scene else []
    total = session.scalar(select(func.count()).select_from(Scene).where(*chosen)) or 0
    columns = (Scene.id, Scene.name, Scene.width, Scene.height)
    rows = session.execute(select(*columns).where(*chosen).order_by(Scene.name, Scene.id).limit(limit).offset(offset)).all()
    ids = [row.id for row in rows]
    of_scenes = select(Tile.scene_id, func.count()).where(Tile.scene_id.in_(ids), Tile.split != NO_SPLIT).group_by(Tile.scene_id)
    held = _counts(session, of_scenes)
    looked_at = _counts(session, of_scenes.join(Review, Review.tile_id == Tile.id))
    boxes = select(Annotation.scene_id, func.count()).where(Annotation.scene_id.in_(ids), Annotation.state == "accepted")
    drawn = _counts(session, boxes.group_by(Annotation.scene_id))
    shown = [SceneSummary(*row, tiles=held.get(row.id, 0), reviewed=looked_at.get(row.id, 0), boxes=drawn.get(row.id, 0)) for row in rows]
    return ScenePage(shown, total)


def _counts(session: Session, query: Any) -> dict[int, int]:
    return {int(scene_id): int(count) for scene_id, count in session.execute(query)}


def _named(part: str) -> ColumnElement[bool]:
    return Scene.name.icontains(part, autoescape=True)


def _showing(session: Session, label: int, chosen: Sequence[ColumnElement[bool]]) -> list[int]:
    """Ids of the tiles under a filter that show a box of a class, at least :data:`MINIMUM_VISIBLE_SHARE` of it, in rising order.

    Scenes are laid below one another on one plane, so that boxes and tiles of all of them are held against each other at once.
    """
    holds = (Annotation.state == "accepted", Annotation.label == label)
    columns = (Annotation.scene_id, Annotation.x1, Annotation.y1, Annotation.x2, Annotation.y2)
    boxes = _rows(session, select(*columns).where(*holds), 5)
    corners = (Tile.x, Tile.y, Tile.x + Tile.width, Tile.y + Tile.height)
    there = Tile.scene_id.in_(select(Annotation.scene_id).where(*holds))
    windows = _rows(session, select(Tile.id, Tile.scene_id, *corners).where(*chosen, there).order_by(Tile.id), 6)
    height = max(boxes[:, 4].max(initial=0.0), windows[:, 5].max(initial=0.0)) + 1.0
    on_plane = [part + scene * height * DOWN for part, scene in ((boxes[:, 1:], boxes[:, :1]), (windows[:, 2:], windows[:, 1:2]))]
    areas = np.prod(on_plane[0][:, 2:] - on_plane[0][:, :2], axis=1)
    shows = np.zeros(len(windows), dtype=bool)
    for box, window in overlapping_pairs(*on_plane):
        shared = intersection_areas(on_plane[0][box], on_plane[1][window])
        shows[window[shared >= MINIMUM_VISIBLE_SHARE * areas[box]]] = True
    return [int(tile_id) for tile_id in windows[shows, 0]]


def _rows(session: Session, query: Any, columns: int) -> NDArray[np.float64]:
    """Many rows of numbers, without the care that a session takes of each."""
    rows = session.connection().execute(query)
    return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.float64).reshape(-1, columns)
