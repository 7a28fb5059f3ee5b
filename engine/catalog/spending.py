"""Where the time of annotators went, and where it is to go: seconds of tiles on their scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from engine.catalog.rounds import AUDIT
from engine.catalog.schema import Review, RoundRow, RoundTile, Scene, Tile
from engine.catalog.tiles import window_of
from engine.records import Window

__all__ = ["SceneSpending", "TileSpending", "scene_spending", "tile_spending"]


@dataclass(frozen=True)
class TileSpending:
    """A tile and its seconds, measured where ``spent``, else expected.

    ``window`` in scene pixels; ``round``: the number of the one that chose it, None for a tile that was annotated outside of any.
    """

    scene_id: int
    window: Window
    round: int | None
    seconds: float
    spent: bool


@dataclass(frozen=True)
class SceneSpending:
    """A scene: how often a tile of it was paid for or is to be, the seconds measured, and those still expected."""

    scene_id: int
    name: str
    tiles: int
    spent_seconds: float
    planned_seconds: float


def tile_spending(session: Session) -> list[TileSpending]:
    """What each tile did or will cost, those of no round first, then round by round; a tile that two rounds paid for stands there twice.

    Seconds are still expected by the newest round of a tile that nobody reviewed, and by an audit that is not finished. An audit chose none
    of its tiles in the first place: what was spent on one before, outside of any round, stands there as of no round.
    """
    links = list(
        session.execute(
            select(Tile, RoundRow, RoundTile)
            .join(RoundTile, RoundTile.tile_id == Tile.id)
            .join(RoundRow, RoundRow.id == RoundTile.round_id)
            .order_by(RoundRow.number, RoundTile.position)
        )
    )
    newest = {tile.id: row.id for tile, row, _ in links}
    reviewed = set(session.scalars(select(Review.tile_id)))
    found = _outside(session)
    for tile, row, link in links:
        awaited = row.state == "ranked" if row.strategy == AUDIT else tile.id not in reviewed
        if link.measured_seconds is not None:
            found.append(TileSpending(tile.scene_id, window_of(tile), row.number, link.measured_seconds, True))
        elif awaited and newest[tile.id] == row.id:
            found.append(TileSpending(tile.scene_id, window_of(tile), row.number, link.estimated_seconds, False))
    return found


def _outside(session: Session) -> list[TileSpending]:
    """What was spent on tiles that no round but audits names, and before these."""
    audited = func.coalesce(func.sum(RoundTile.measured_seconds), 0.0)
    bought = exists().where(RoundTile.tile_id == Tile.id, RoundTile.round_id == RoundRow.id, RoundRow.strategy != AUDIT)
    in_audits = select(audited).where(RoundTile.tile_id == Tile.id).correlate(Tile).scalar_subquery()
    query = select(Tile, Review.seconds, in_audits).join(Review, Review.tile_id == Tile.id).where(Review.seconds.is_not(None), ~bought)
    return [
        TileSpending(tile.scene_id, window_of(tile), None, seconds - again, True)
        for tile, seconds, again in session.execute(query.order_by(Tile.id))
        if seconds is not None and (seconds > again or not again)
    ]


def scene_spending(session: Session, tiles: Sequence[TileSpending]) -> list[SceneSpending]:
    """The scenes of ``tiles``, the dearest first."""
    by_scene: dict[int, list[TileSpending]] = {}
    for tile in tiles:
        by_scene.setdefault(tile.scene_id, []).append(tile)
    names = {scene_id: name for scene_id, name in session.execute(select(Scene.id, Scene.name)) if scene_id in by_scene}
    found = [
        SceneSpending(
            scene_id,
            names[scene_id],
            len(mine),
            sum(tile.seconds for tile in mine if tile.spent),
            sum(tile.seconds for tile in mine if not tile.spent),
        )
        for scene_id, mine in by_scene.items()
    ]
    return sorted(found, key=lambda each: (-each.spent_seconds - each.planned_seconds, each.scene_id))
