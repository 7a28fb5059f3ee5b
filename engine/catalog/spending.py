"""Where the time of annotators went, and where it is to go: seconds of tiles on their scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

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
    """What each tile did or will cost, those of no round first, then round by round; a tile of two rounds stands there twice."""
    outside = (
        select(Tile, Review.seconds)
        .join(Review, Review.tile_id == Tile.id)
        .where(Review.seconds.is_not(None), ~exists().where(RoundTile.tile_id == Tile.id))
        .order_by(Tile.id)
    )
    chosen = (
        select(Tile, RoundRow.number, RoundTile.estimated_seconds, RoundTile.measured_seconds)
        .join(RoundTile, RoundTile.tile_id == Tile.id)
        .join(RoundRow, RoundRow.id == RoundTile.round_id)
        .order_by(RoundRow.number, RoundTile.position)
    )
    found = [TileSpending(tile.scene_id, window_of(tile), None, seconds or 0.0, True) for tile, seconds in session.execute(outside)]
    for tile, number, expected, measured in session.execute(chosen):
        seconds = expected if measured is None else measured
        found.append(TileSpending(tile.scene_id, window_of(tile), number, seconds, measured is not None))
    return found


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
