"""Tables of the catalog (SQLAlchemy 2). Coordinates are scene pixels unless a name ends in ``_tile``; times are UTC seconds."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Annotation",
    "Base",
    "ForgottenId",
    "JobProgress",
    "LabelSetRow",
    "LedgerEvent",
    "ModelRow",
    "PredictionSet",
    "RemoteProject",
    "RemoteTask",
    "Review",
    "RoundRow",
    "RoundTile",
    "Scene",
    "SceneAlias",
    "Search",
    "SearchHit",
    "SetAside",
    "Source",
    "SplitRule",
    "Tile",
    "UserRow",
    "WorkerHeartbeat",
]


class Base(DeclarativeBase):
    """Base of all tables; ``dict`` and ``list`` columns are JSON."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[float]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
        list[list[float]]: JSON,
    }


class Source(Base):
    """One archive, folder or file that was ingested."""

    __tablename__ = "source"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(512))
    kind: Mapped[str] = mapped_column(String(16))
    """zip, tar, folder or file"""
    identity: Mapped[str] = mapped_column(String(512), unique=True)
    """sha256 of an archive or file, the resolved path of a folder: the same source ingested again is the same row"""
    config: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16), default="running")
    """running or done"""
    created: Mapped[float] = mapped_column(Float, default=time.time)


class Scene(Base):
    """One raster. Its content hash decides its identity and its split."""

    __tablename__ = "scene"
    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"))
    name: Mapped[str] = mapped_column(String(1024))
    """as the archive or folder names it, for people and for label files; never used as a path"""
    content_hash: Mapped[str] = mapped_column(String(64), unique=True)
    path: Mapped[str] = mapped_column(String(4096))
    """below the workspace for unpacked files, absolute for referenced ones"""
    referenced: Mapped[bool] = mapped_column(default=False)
    width: Mapped[int]
    height: Mapped[int]
    bands: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(16))
    crs_wkt: Mapped[str | None]
    transform: Mapped[list[float] | None]
    """(a, b, c, d, e, f), pixel corners to CRS units"""
    ground_sample_distance: Mapped[float | None]
    """metres per pixel"""
    captured: Mapped[str | None] = mapped_column(String(64))
    split: Mapped[str | None] = mapped_column(String(8))
    """train, dev or test where the scene as a whole has one; None where its blocks are split"""
    ground_x1: Mapped[float | None]
    """bounds of the footprint in CRS units, None without georeference; filled in by ``tiles.add_tiles``"""
    ground_y1: Mapped[float | None]
    ground_x2: Mapped[float | None]
    ground_y2: Mapped[float | None]
    __table_args__ = (Index("scene_by_ground", "ground_x1", "ground_x2"),)


class SceneAlias(Base):
    """Another name under which the very same pixels came in: label files may use it."""

    __tablename__ = "scene_alias"
    id: Mapped[int] = mapped_column(primary_key=True)
    scene_id: Mapped[int] = mapped_column(ForeignKey("scene.id"), index=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"))
    name: Mapped[str] = mapped_column(String(1024))
    __table_args__ = (UniqueConstraint("source_id", "name"),)


class SplitRule(Base):
    """How this workspace splits its ground (id 1): decided at the first ingest and never changed."""

    __tablename__ = "split_rule"
    id: Mapped[int] = mapped_column(primary_key=True)
    config: Mapped[dict[str, Any]]


class Tile(Base):
    """A window of a scene."""

    __tablename__ = "tile"
    id: Mapped[int] = mapped_column(primary_key=True)
    scene_id: Mapped[int] = mapped_column(ForeignKey("scene.id"), index=True)
    x: Mapped[int]
    y: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    split: Mapped[str] = mapped_column(String(8), index=True)
    """train, dev, test, or none for a tile that crosses a block border or repeats another's pixels"""
    __table_args__ = (UniqueConstraint("scene_id", "x", "y", "width", "height"),)


class ForgottenId(Base):
    """The highest id that a table (``scene``, ``tile``) had when rows of it were withdrawn, see :mod:`engine.catalog.forgotten`."""

    __tablename__ = "forgotten_id"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    highest: Mapped[int]


class SetAside(Base):
    """A file that was not taken in, and why."""

    __tablename__ = "set_aside"
    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"), index=True)
    name: Mapped[str] = mapped_column(String(1024))
    reason: Mapped[str]
    __table_args__ = (UniqueConstraint("source_id", "name"),)


class LabelSetRow(Base):
    """The one label set of the workspace (id 1)."""

    __tablename__ = "label_set"
    id: Mapped[int] = mapped_column(primary_key=True)
    names: Mapped[list[str]]
    fingerprint: Mapped[str] = mapped_column(String(16))


class Annotation(Base):
    """One object's box in scene pixels."""

    __tablename__ = "annotation"
    id: Mapped[int] = mapped_column(primary_key=True)
    scene_id: Mapped[int] = mapped_column(ForeignKey("scene.id"))
    x1: Mapped[float]
    y1: Mapped[float]
    x2: Mapped[float]
    y2: Mapped[float]
    label: Mapped[int]
    source: Mapped[str] = mapped_column(String(64))
    """the file, person or server it came from"""
    annotator: Mapped[str | None] = mapped_column(String(128))
    seconds: Mapped[float | None]
    version: Mapped[int] = mapped_column(Integer, default=1)
    state: Mapped[str] = mapped_column(String(16), default="accepted")
    """accepted; withheld: known to the oracle alone until a round pays for it; deleted"""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    __table_args__ = (Index("annotation_by_place", "scene_id", "state", "y1"),)


class Review(Base):
    """Somebody looked at a tile, and what is annotated there is all of it, nothing included."""

    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    tile_id: Mapped[int] = mapped_column(ForeignKey("tile.id"), unique=True)
    by: Mapped[str] = mapped_column(String(128))
    seconds: Mapped[float | None]
    created: Mapped[float] = mapped_column(Float, default=time.time)


class ModelRow(Base):
    """A trained model on disk under ``models/<name>``."""

    __tablename__ = "model"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    stage: Mapped[str] = mapped_column(String(16))
    """pretrain or finetune"""
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("model.id"))
    config: Mapped[dict[str, Any]]
    label_set_fingerprint: Mapped[str | None] = mapped_column(String(16))
    data_hash: Mapped[str] = mapped_column(String(64))
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[float] = mapped_column(Float, default=time.time)


class PredictionSet(Base):
    """The predictions of one model on a set of tiles, under ``predictions/<name>``."""

    __tablename__ = "prediction_set"
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    name: Mapped[str] = mapped_column(String(128), unique=True)
    tiles: Mapped[int]
    created: Mapped[float] = mapped_column(Float, default=time.time)


class RoundRow(Base):
    """One rank–annotate–train cycle."""

    __tablename__ = "round"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    budget_seconds: Mapped[float]
    strategy: Mapped[str] = mapped_column(String(32))
    seed: Mapped[int]
    prediction_set_id: Mapped[int | None] = mapped_column(ForeignKey("prediction_set.id"))
    state: Mapped[str] = mapped_column(String(16), default="ranked")
    """ranked, annotated or trained"""
    estimated_seconds: Mapped[float]
    measured_seconds: Mapped[float | None]
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[float] = mapped_column(Float, default=time.time)


class RoundTile(Base):
    """A tile chosen in a round, with the reason."""

    __tablename__ = "round_tile"
    round_id: Mapped[int] = mapped_column(ForeignKey("round.id"), primary_key=True)
    tile_id: Mapped[int] = mapped_column(ForeignKey("tile.id"), primary_key=True)
    position: Mapped[int]
    score: Mapped[float]
    estimated_seconds: Mapped[float]
    measured_seconds: Mapped[float | None]
    reasons: Mapped[dict[str, Any]]


class RemoteProject(Base):
    """A project on an annotation server that this workspace made, and how far its answers were taken in."""

    __tablename__ = "remote_project"
    id: Mapped[int] = mapped_column(primary_key=True)
    server: Mapped[str] = mapped_column(String(512))
    """origin of the server's address, without path and credentials"""
    remote_id: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(256))
    label_config: Mapped[str]
    """as it was generated; a push is refused when the server's differs"""
    label_set_fingerprint: Mapped[str] = mapped_column(String(16))
    cursor_at: Mapped[str] = mapped_column(String(64), default="")
    """the server's updated_at up to which everything has been applied; empty before the first pull"""
    cursor_id: Mapped[int] = mapped_column(Integer, default=0)
    """remote id of the last one applied at ``cursor_at``"""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    __table_args__ = (UniqueConstraint("server", "remote_id"),)


class RemoteTask(Base):
    """A tile on an annotation server: one task a tile and project."""

    __tablename__ = "remote_task"
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("remote_project.id"))
    tile_id: Mapped[int] = mapped_column(ForeignKey("tile.id"), index=True)
    round_id: Mapped[int | None] = mapped_column(ForeignKey("round.id"))
    remote_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    """of what was pushed: pixels, shown boxes, label set; the same content is never pushed twice"""
    shown: Mapped[list[list[float]] | None]
    """what was shown there: (x1, y1, x2, y2, class) in tile pixels; None where that is not known"""
    state: Mapped[str] = mapped_column(String(16), default="pushed")
    """pushed, or annotated once an answer was applied"""
    applied_hash: Mapped[str | None] = mapped_column(String(64))
    """of the answer that was applied last; the same answer is never applied twice"""
    applied_at: Mapped[str | None] = mapped_column(String(64))
    """the server's updated_at of that answer"""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    __table_args__ = (UniqueConstraint("project_id", "remote_id"), UniqueConstraint("project_id", "tile_id"))


class Search(Base):
    """One "more like this": the box that was drawn, and how far the search is."""

    __tablename__ = "search"
    id: Mapped[int] = mapped_column(primary_key=True)
    tile_id: Mapped[int] = mapped_column(ForeignKey("tile.id"))
    x1_tile: Mapped[float]
    y1_tile: Mapped[float]
    x2_tile: Mapped[float]
    y2_tile: Mapped[float]
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    config: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    """of query, model and configuration: the same search again is this one"""
    created: Mapped[float] = mapped_column(Float, default=time.time)


class SearchHit(Base):
    """A look-alike that a search found, and what somebody said of it."""

    __tablename__ = "search_hit"
    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("search.id"))
    tile_id: Mapped[int] = mapped_column(ForeignKey("tile.id"))
    position: Mapped[int]
    score: Mapped[float]
    x1_tile: Mapped[float]
    y1_tile: Mapped[float]
    x2_tile: Mapped[float]
    y2_tile: Mapped[float]
    decision: Mapped[str | None] = mapped_column(String(8))
    """yes, no, or None while nobody has said"""
    annotation_id: Mapped[int | None] = mapped_column(ForeignKey("annotation.id"))
    """the box that a yes made"""
    __table_args__ = (UniqueConstraint("search_id", "position"),)


class JobProgress(Base):
    """How far a job is; whether it runs, and its result, are the job store's to say."""

    __tablename__ = "job_progress"
    job_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    done: Mapped[int]
    total: Mapped[int]
    message: Mapped[str] = mapped_column(String(512))
    at: Mapped[float] = mapped_column(Float)


class WorkerHeartbeat(Base):
    """The worker's sign of life (id 1)."""

    __tablename__ = "worker_heartbeat"
    id: Mapped[int] = mapped_column(primary_key=True)
    pid: Mapped[int]
    host: Mapped[str] = mapped_column(String(256))
    since: Mapped[float] = mapped_column(Float)
    at: Mapped[float] = mapped_column(Float)


class UserRow(Base):
    """Somebody who may log in."""

    __tablename__ = "user_account"
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(512))
    """empty where nobody knows a password for it: it came with a backup that held no secrets"""
    role: Mapped[str] = mapped_column(String(16), server_default="engineer")
    """annotator, manager or engineer; accounts from before there were roles could do everything and are engineers"""
    created: Mapped[float] = mapped_column(Float, default=time.time)


class LedgerEvent(Base):
    """Append-only: what happened, in order."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Float, default=time.time)
    kind: Mapped[str] = mapped_column(String(32))
    details: Mapped[dict[str, Any]]
