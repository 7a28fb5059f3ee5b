"""What was ingested: sources, the scenes that came in with each, what was set aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from engine.catalog.forgotten import keep_ids
from engine.catalog.schema import Scene, SceneAlias, SetAside, Source, SplitRule, Tile
from engine.errors import BadInput

__all__ = [
    "close_source",
    "content_hashes",
    "find_source",
    "forget_scenes",
    "forget_source",
    "open_source",
    "scene_by_hash",
    "scene_files",
    "scene_hashes",
    "set_aside_of",
    "tiles_by_split",
]

CHUNK = 1000


def find_source(session: Session, identity: str) -> Source | None:
    """The source of that identity: the SHA-256 of an archive or file, the path of a folder."""
    return session.scalar(select(Source).where(Source.identity == identity))


def open_source(session: Session, *, name: str, kind: str, identity: str, config: Mapping[str, Any]) -> Source:
    """The source's row, made where it is new.

    Raises:
        BadInput: the source was ingested with another ``config``.
    """
    known = find_source(session, identity)
    if known is None:
        known = Source(name=name, kind=kind, identity=identity, config=dict(config))
        session.add(known)
        session.flush()
    for key, value in config.items():
        if known.config.get(key) != value:
            raise BadInput(
                f"{key} = {value!r} for {name!r}, which was ingested with {known.config.get(key)!r}",
                expected="the same value",
                remedy="Leave it out, or ingest into another workspace",
            )
    return known


def close_source(session: Session, source: Source, set_aside: Mapping[str, str]) -> None:
    """Mark the source as done; ``set_aside`` (reason by name) takes the place of what was set aside earlier."""
    session.execute(delete(SetAside).where(SetAside.source_id == source.id))
    session.add_all(SetAside(source_id=source.id, name=name, reason=reason) for name, reason in sorted(set_aside.items()))
    session.merge(source).state = "done"


def scene_by_hash(session: Session, content_hash: str) -> Scene | None:
    """The scene of that content, whatever its name and source."""
    return session.scalar(select(Scene).where(Scene.content_hash == content_hash))


def scene_hashes(session: Session, source: Source) -> dict[str, str]:
    """Content hashes by name of the scenes that came in with ``source``."""
    rows = session.execute(select(Scene.name, Scene.content_hash).where(Scene.source_id == source.id))
    return {row.name: row.content_hash for row in rows}


def content_hashes(session: Session) -> set[str]:
    """The content hashes of all scenes."""
    return set(session.scalars(select(Scene.content_hash)))


def scene_files(session: Session) -> set[str]:
    """The unpacked files that scenes refer to, relative to the workspace."""
    return set(session.scalars(select(Scene.path).where(~Scene.referenced)))


def set_aside_of(session: Session, source: Source) -> list[tuple[str, str]]:
    """(name, reason) of every file of ``source`` that was set aside, by name."""
    query = select(SetAside.name, SetAside.reason).where(SetAside.source_id == source.id).order_by(SetAside.name)
    return [(name, reason) for name, reason in session.execute(query)]


def tiles_by_split(session: Session, source: Source) -> dict[str, int]:
    """How many tiles of the source's scenes each split has."""
    query = select(Tile.split, func.count()).join(Scene, Tile.scene_id == Scene.id).where(Scene.source_id == source.id).group_by(Tile.split)
    counts = {row[0]: row[1] for row in session.execute(query)}
    return {split: counts.get(split, 0) for split in ("train", "dev", "test", "none")}


def forget_scenes(session: Session, scene_ids: Iterable[int]) -> None:
    """Remove scenes that nothing but their tiles and other names refers to yet."""
    ids = sorted(set(scene_ids))
    keep_ids(session)
    for start in range(0, len(ids), CHUNK):
        chunk: Sequence[int] = ids[start : start + CHUNK]
        for statement in (
            delete(Tile).where(Tile.scene_id.in_(chunk)),
            delete(SceneAlias).where(SceneAlias.scene_id.in_(chunk)),
            delete(Scene).where(Scene.id.in_(chunk)),
        ):
            session.execute(statement)


def forget_source(session: Session, source: Source) -> None:
    """Remove a source that never became done, with all that came in with it; and the split rule where no source is left."""
    forget_scenes(session, session.scalars(select(Scene.id).where(Scene.source_id == source.id)))
    for statement in (
        delete(SceneAlias).where(SceneAlias.source_id == source.id),
        delete(SetAside).where(SetAside.source_id == source.id),
        delete(Source).where(Source.id == source.id),
    ):
        session.execute(statement)
    if session.scalar(select(func.count()).select_from(Source)) == 0:
        session.execute(delete(SplitRule))
