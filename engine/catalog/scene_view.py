"""A scene as somebody looks at it: what is annotated, which tiles there are and what became of them, and what the newest detector says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog.schema import Annotation, Review, RoundTile, Tile
from engine.catalog.suggestions import suggested_on
from engine.catalog.workspace import Workspace
from engine.inference.merge import merge_windows
from engine.records import Window

__all__ = ["SceneView", "ViewedTile", "believed_boxes", "scene_view"]

View = tuple[float, float, float, float]


@dataclass(frozen=True)
class ViewedTile:
    """A tile of a scene, and whether somebody looked at it, else whether a round chose it."""

    id: int
    window: Window
    split: str
    state: str
    """reviewed, chosen or open"""


@dataclass(frozen=True)
class SceneView:
    """What lies in a part of a scene: at most so many boxes and tiles, and how many there are.

    ``boxes`` are accepted ones in scene pixels as (x1, y1, x2, y2, class), the largest first.
    """

    boxes: Sequence[tuple[float, float, float, float, int]]
    boxes_total: int
    tiles: Sequence[ViewedTile]
    tiles_total: int


def scene_view(session: Session, scene_id: int, view: View, *, limit: int) -> SceneView:
    """What lies in, or reaches into, ``view`` (x1, y1, x2, y2 in scene pixels) of a scene.

    Args:
        session: an open transaction.
        scene_id: which scene.
        view: the part that is looked at.
        limit: how many boxes at most; tiles are given when there are no more than that.
    """
    seen = [
        Annotation.scene_id == scene_id,
        Annotation.state == "accepted",
        *_reach(view, Annotation.x1, Annotation.y1, Annotation.x2, Annotation.y2),
    ]
    boxes_total = session.scalar(select(func.count()).select_from(Annotation).where(*seen)) or 0
    area = (Annotation.x2 - Annotation.x1) * (Annotation.y2 - Annotation.y1)
    columns = (Annotation.x1, Annotation.y1, Annotation.x2, Annotation.y2, Annotation.label)
    rows = session.execute(select(*columns).where(*seen).order_by(area.desc(), Annotation.id).limit(limit))
    there = [Tile.scene_id == scene_id, *_reach(view, Tile.x, Tile.y, Tile.x + Tile.width, Tile.y + Tile.height)]
    tiles_total = session.scalar(select(func.count()).select_from(Tile).where(*there)) or 0
    return SceneView(
        boxes=[(x1, y1, x2, y2, label) for x1, y1, x2, y2, label in rows],
        boxes_total=boxes_total,
        tiles=_tiles(session, there) if tiles_total <= limit else [],
        tiles_total=tiles_total,
    )


def believed_boxes(workspace: Workspace, tiles: Sequence[ViewedTile], width: int, height: int, score_threshold: float) -> Boxes:
    """What the newest detector found on ``tiles`` of one scene of ``width`` × ``height`` pixels, merged, in scene pixels."""
    found = suggested_on(workspace, [tile.id for tile in tiles], score_threshold)
    windows = {tile.id: tile.window for tile in tiles}
    in_scene = [(windows[tile_id], boxes.shifted(windows[tile_id].x, windows[tile_id].y)) for tile_id, boxes in found.items()]
    return merge_windows(in_scene, width, height)


def _tiles(session: Session, there: Sequence[ColumnElement[bool]]) -> list[ViewedTile]:
    reviewed = set(session.scalars(select(Review.tile_id).join(Tile, Tile.id == Review.tile_id).where(*there)))
    chosen = set(session.scalars(select(RoundTile.tile_id).join(Tile, Tile.id == RoundTile.tile_id).where(*there)))
    rows = session.execute(select(Tile.id, Tile.x, Tile.y, Tile.width, Tile.height, Tile.split).where(*there).order_by(Tile.id))
    return [
        ViewedTile(
            tile_id, Window(x, y, width, height), split, "reviewed" if tile_id in reviewed else "chosen" if tile_id in chosen else "open"
        )
        for tile_id, x, y, width, height, split in rows
    ]


def _reach(view: View, x1: Any, y1: Any, x2: Any, y2: Any) -> list[ColumnElement[bool]]:
    """That a rectangle, given by its columns, and the view share area."""
    return [x1 < view[2], y1 < view[3], x2 > view[0], y2 > view[1]]
