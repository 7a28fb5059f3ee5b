"""Scenes and tiles: written once, with a split that never changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from engine.catalog.forgotten import first_id_of
from engine.catalog.ground import footprints, reconcile
from engine.catalog.schema import Review, Scene, SceneAlias, SplitRule, Tile
from engine.catalog.splits import NO_SPLIT, SPLITS, SplitConfig, decide, regions, split_of_tile
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import inside
from engine.records import Window

__all__ = ["TileRecord", "add_alias", "add_tiles", "chunks", "decide_splits", "scene_file", "split_rule", "tiles"]

CHUNK = 10_000

Item = TypeVar("Item")


@dataclass(frozen=True)
class TileRecord:
    """A tile with what is needed to read it: its window in scene pixels, the scene it belongs to, its split."""

    id: int
    scene_id: int
    scene_name: str
    window: Window
    split: str
    content_hash: str


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """``items`` in runs short enough for one ``IN`` clause."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def tiles(
    session: Session, *, split: str | None = None, reviewed: bool | None = None, ids: Sequence[int] | None = None
) -> list[TileRecord]:
    """Tiles by id.

    Args:
        session: an open transaction.
        split: ``train``, ``dev``, ``test`` or ``none``; None for all but ``none``.
        reviewed: only tiles that somebody looked at, or only those that nobody did.
        ids: only these; unknown ids are left out.
    """
    query = select(Tile, Scene.name).join(Scene, Tile.scene_id == Scene.id).order_by(Tile.id)
    query = query.where(Tile.split != NO_SPLIT if split is None else Tile.split == split)
    if reviewed is not None:
        looked_at = exists().where(Review.tile_id == Tile.id)
        query = query.where(looked_at if reviewed else ~looked_at)
    queries = [query] if ids is None else [query.where(Tile.id.in_(chunk)) for chunk in chunks(sorted(set(ids)))]
    return [
        TileRecord(row.id, row.scene_id, name, window_of(row), row.split, row.content_hash)
        for query in queries
        for row, name in session.execute(query)
    ]


def window_of(tile: Tile) -> Window:
    """The window of a tile's row."""
    return Window(tile.x, tile.y, tile.width, tile.height)


def scene_file(workspace: Workspace, scene: Scene) -> Path:
    """Absolute path of the scene's raster: inside the workspace, or where it was referenced.

    Raises:
        BadInput: the file is gone, or the stored path leads out of the workspace.
    """
    path = Path(scene.path) if scene.referenced else inside(workspace.root, scene.path)
    if not path.is_file():
        raise BadInput(f"the raster {path} of scene {scene.name!r} is gone", remedy="Put it back, or ingest its source again")
    return path


def split_rule(session: Session) -> SplitConfig | None:
    """The rule by which this workspace splits ground; None before the first ingest."""
    row = session.get(SplitRule, 1)
    return None if row is None else SplitConfig.from_mapping(row.config)


def decide_splits(session: Session, config: SplitConfig | None, *, scenes: int, tile: int, overlap: int) -> SplitConfig:
    """The workspace's rule: decided and stored at the first ingest, only read at each later one.

    Args:
        session: an open transaction.
        config: what the user asks for; None for the defaults, or for whatever holds already.
        scenes: how many scenes the first source holds.
        tile: tile side in pixels.
        overlap: in pixels.

    Raises:
        BadInput: ``config`` asks for something else than what the first ingest fixed.
    """
    stored = split_rule(session)
    if stored is None:
        decided = decide(config or SplitConfig(), scenes=scenes, tile=tile, overlap=overlap)
        session.add(SplitRule(id=1, config=decided.model_dump()))
        session.flush()
        return decided
    for key in ("dev_share", "test_share", "mode", "minimum_scenes", "block_size", "salt"):
        asked = None if config is None else getattr(config, key)
        if asked is not None and asked != "auto" and asked != getattr(stored, key):
            raise BadInput(
                f"{key} = {asked!r}, but the first ingest fixed it at {getattr(stored, key)!r}",
                expected="the same, so that no ground moves from one split to another",
                remedy="Leave it out, or start a new workspace",
            )
    return stored


def add_alias(session: Session, scene: Scene, source_id: int, name: str) -> None:
    """Remember that ``scene``'s very pixels came in again as ``name``, so that label files may use that name too."""
    known = select(SceneAlias).where(SceneAlias.source_id == source_id, SceneAlias.name == name)
    if name != scene.name and session.scalar(known) is None:
        session.add(SceneAlias(scene_id=scene.id, source_id=source_id, name=name))
        session.flush()


def add_tiles(
    session: Session, scene: Scene, windows: Sequence[Window], content_hashes: Sequence[str], *, split: str | None = None
) -> list[Tile]:
    """Store the tiles of a scene, each with its split, and return their rows in the order of ``windows``.

    A tile that is stored already is returned as it is. A tile that repeats the pixels of another one gets the split ``none``, and so does
    one that lies on ground of two splits, be it in this scene or in an overlapping scene of the same CRS.

    Args:
        session: an open transaction in which ``scene`` has its id and in which :func:`decide_splits` was called, now or earlier.
        scene: its ``split`` and footprint columns are filled in here.
        windows: in scene pixels.
        content_hashes: one a window, of the pixels.
        split: give the whole scene this split, for data that come with a split of their own; without effect on a scene that has tiles.

    Raises:
        BadInput: ``split`` is not train, dev or test.
    """
    if split is not None and split not in SPLITS:
        raise BadInput(f"the split {split!r}", expected=f"one of {list(SPLITS)}")
    rule = split_rule(session)
    assert rule is not None, "decide_splits comes first"
    stored = {window_of(tile): tile for tile in session.scalars(select(Tile).where(Tile.scene_id == scene.id))}
    if not stored:
        _settle_scene(scene, rule, split)
    fresh = [(window, digest) for window, digest in zip(windows, content_hashes, strict=True) if window not in stored]
    known, first = _known_hashes(session, [digest for _, digest in fresh]), first_id_of(session, Tile)
    for (window, digest), given in zip(fresh, _splits(session, scene, [window for window, _ in fresh], rule, stored), strict=True):
        tile = Tile(scene_id=scene.id, x=window.x, y=window.y, width=window.width, height=window.height, content_hash=digest)
        tile.split = NO_SPLIT if digest in known else given
        known.add(digest)
        stored[window] = tile
        session.add(tile)
    for tile_id, (window, _) in enumerate(fresh if first is not None else [], start=first or 0):
        stored[window].id = tile_id
    session.flush()
    return [stored[window] for window in windows]


def _settle_scene(scene: Scene, rule: SplitConfig, split: str | None) -> None:
    ground = regions(scene.content_hash, scene.width, scene.height, rule)
    scene.split = split or (ground[0][1] if len(ground) == 1 else None)
    if scene.crs_wkt and scene.transform:
        bounds = footprints([Window(0, 0, scene.width, scene.height)], scene.transform)[0].bounds
        scene.ground_x1, scene.ground_y1, scene.ground_x2, scene.ground_y2 = bounds


def _splits(session: Session, scene: Scene, windows: Sequence[Window], rule: SplitConfig, stored: dict[Window, Tile]) -> list[str]:
    if not windows:
        return []
    ground = (
        [(Window(0, 0, scene.width, scene.height), scene.split)]
        if scene.split
        else regions(scene.content_hash, scene.width, scene.height, rule)
    )
    own = [split_of_tile(window, ground) for window in windows]
    transform = scene.transform if scene.ground_x1 is not None else None
    taken = [(tile, transform) for tile in stored.values() if tile.split != NO_SPLIT]
    taken += _tiles_on_same_ground(session, scene)
    if not taken:
        return own
    shapes = np.concatenate([footprints([window_of(tile)], other) for tile, other in taken])
    return reconcile(own, footprints(windows, transform), shapes, [tile.split for tile, _ in taken])


def _tiles_on_same_ground(session: Session, scene: Scene) -> list[tuple[Tile, list[float] | None]]:
    if scene.ground_x1 is None:
        return []
    query = (
        select(Tile, Scene.transform)
        .join(Scene, Tile.scene_id == Scene.id)
        .where(Scene.id != scene.id, Scene.crs_wkt == scene.crs_wkt, Tile.split != NO_SPLIT)
        .where(Scene.ground_x1 < scene.ground_x2, Scene.ground_x2 > scene.ground_x1)
        .where(Scene.ground_y1 < scene.ground_y2, Scene.ground_y2 > scene.ground_y1)
    )
    return [(tile, transform) for tile, transform in session.execute(query)]


def _known_hashes(session: Session, digests: Sequence[str]) -> set[str]:
    return {
        found
        for chunk in chunks(sorted(set(digests)))
        for found in session.scalars(select(Tile.content_hash).where(Tile.content_hash.in_(chunk)))
    }
