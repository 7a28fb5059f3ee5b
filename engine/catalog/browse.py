"""The catalog page by page: tiles under a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from engine.catalog.schema import Review, Tile
from engine.catalog.splits import NO_SPLIT
from engine.catalog.tiles import TileRecord, tiles

__all__ = ["TilePage", "tile_page"]


@dataclass(frozen=True)
class TilePage:
    """Some of the tiles under a filter, which of them somebody has looked at, and how many there are in all."""

    tiles: Sequence[TileRecord]
    reviewed: frozenset[int]
    total: int


def tile_page(session: Session, *, limit: int, offset: int = 0, split: str | None = None, reviewed: bool | None = None) -> TilePage:
    """Tiles by id.

    Args:
        session: an open transaction.
        limit: how many at most.
        offset: how many to pass over.
        split: train, dev or test; None for all tiles that have a split.
        reviewed: only tiles that somebody looked at, or only those that nobody did.
    """
    looked_at = exists().where(Review.tile_id == Tile.id)
    chosen = [Tile.split != NO_SPLIT if split is None else Tile.split == split]
    if reviewed is not None:
        chosen.append(looked_at if reviewed else ~looked_at)
    total = session.scalar(select(func.count()).select_from(Tile).where(*chosen)) or 0
    ids = list(session.scalars(select(Tile.id).where(*chosen).order_by(Tile.id).limit(limit).offset(offset)))
    done = frozenset(session.scalars(select(Review.tile_id).where(Review.tile_id.in_(ids))))
    return TilePage(tiles(session, ids=ids), done, total)
