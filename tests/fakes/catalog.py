"""Scenes and tiles in a workspace without a pixel: what an ingest leaves in the catalog."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.schema import Scene, Source, Tile
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import add_tiles, decide_splits
from engine.records import Window


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def grid(width: int, height: int, tile: int, overlap: int = 0) -> list[Window]:
    """Windows that cover the scene, the last row and column moved inward."""

    def starts(length: int) -> list[int]:
        regular = list(range(0, max(length - tile, 0) + 1, tile - overlap))
        return regular if regular[-1] + tile >= length else [*regular, length - tile]

    return [Window(x, y, min(tile, width), min(tile, height)) for y in starts(height) for x in starts(width)]


def add_scene(
    session: Session,
    name: str,
    *,
    width: int = 64,
    height: int = 64,
    tile: int = 64,
    overlap: int = 0,
    split: str | None = None,
    content: str | None = None,
    transform: Sequence[float] | None = None,
    config: SplitConfig | None = None,
    scenes: int = 1,
) -> tuple[Scene, list[Tile]]:
    """Add a scene with tiles; ``content`` stands for its pixels, the same content is the same scene."""
    content_hash = digest(content or name)
    decide_splits(session, config, scenes=scenes, tile=tile, overlap=overlap)
    scene = session.scalar(select(Scene).where(Scene.content_hash == content_hash))
    if scene is None:
        source = session.scalar(select(Source)) or Source(name="archive.zip", kind="zip", identity="0", config={})
        session.add(source)
        session.flush()
        scene = Scene(
            source_id=source.id, name=name, content_hash=content_hash, path=f"scenes/{content_hash[:8]}.tif", bands=3, dtype="uint8"
        )
        scene.width, scene.height = width, height
        scene.crs_wkt, scene.transform = ("EPSG:32617", list(transform)) if transform else (None, None)
        session.add(scene)
        session.flush()
    windows = grid(width, height, tile, overlap)
    return scene, add_tiles(session, scene, windows, [digest(content_hash, window) for window in windows], split=split)
