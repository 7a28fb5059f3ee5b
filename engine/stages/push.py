"""``push``: the tiles of a round, as tasks on an annotation server."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from sqlalchemy.orm import Session

from engine.annotation_server import ACCEPTED, MOST_TASKS_AT_ONCE, AnnotationServer, ServerProject, Suggestion, TileTask
from engine.boxes import Boxes
from engine.catalog import ledger, reconcile, remote
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.predictions import RoundDetections, round_detections
from engine.catalog.rounds import get_round, round_tiles
from engine.catalog.schema import RemoteProject, RemoteTask, RoundRow
from engine.catalog.task_pictures import LocalPictures, SignedPictures, TaskPictures, UploadedPictures
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.progress import Progress, silent
from engine.simulation.oracle import shown_boxes

__all__ = ["PushConfig", "PushPlan", "PushReport", "plan_push", "push"]

SMALLEST_SHOWN_PIXELS = 1.01
ImageUrl = Callable[[int], str]


class PushConfig(StageConfig):
    """Which tiles go to the annotation server, and what is shown on them."""

    round: int | None = Field(default=None, ge=1)
    """Number of the round; none for the newest."""
    title: str | None = Field(default=None, min_length=3, max_length=50)
    """Title of the project when it is made; none for one with the workspace's name."""
    shown_score: float = Field(default=0.3, ge=0, le=1)
    """Predictions from this score up are shown to the annotator for correction."""
    new_project: bool = False
    """Make another project, in place of one that is gone or was changed; answers to earlier ones are still pulled."""
    annotators: int = Field(default=1, ge=1, le=20)
    """People who are to annotate each tile; a project that asks fewer is refused. What becomes of several answers: `several` of `pull`."""
    images: Literal["signed", "local-files", "upload"] = "signed"
    """Where annotators' browsers get the pictures: `signed` addresses of this app, `local-files` that the server has on its own disk, or
    an `upload` into the server."""
    local_root: Path | None = None
    """For `local-files`: the folder that the server serves (its document root) as this machine sees it; pictures are written below it."""
    local_root_there: str | None = None
    """For `local-files`: the same folder as the server sees it, where its path is another there."""
    chunk: int = Field(default=MOST_TASKS_AT_ONCE, ge=1, le=MOST_TASKS_AT_ONCE)
    """Tasks in one request."""
    renew_days: float = Field(default=30.0, gt=0)
    """A task that is pushed again gets a fresh address of its picture when the last one is older; addresses expire after 90 days."""


@dataclass(frozen=True)
class PushReport:
    """What became of a round's tiles that nobody has reviewed.

    ``pushed``: new tasks; ``updated``: tasks that show something else now, or whose picture got a fresh address; ``unchanged``: tasks that
    were there just so; ``found``: tasks that an interrupted push had left unrecorded; ``removed``: doubles that an interrupted push had
    made, and nobody had worked on; ``reviewed``: tiles of the round that needed no task any more.
    """

    round: int
    server: str
    project: int
    title: str
    pushed: int
    updated: int
    unchanged: int
    found: int
    removed: int
    reviewed: int
    boxes: int


@dataclass(frozen=True)
class PushPlan:
    """What a push would do; nothing is changed, neither here nor there.

    ``project``: None where one would be made; ``problems``: why the push would be refused, empty where it would not be. ``add`` to
    ``unchanged``, ``reviewed`` and ``boxes`` as in :class:`PushReport`; ``found``: tasks over there that would be written down;
    ``doubles``: second tasks of a tile that nobody worked on and that would be removed; ``gone``: tasks deleted over there.
    """

    round: int
    server: str
    project: int | None
    title: str
    problems: tuple[str, ...]
    add: int
    update: int
    unchanged: int
    found: int
    doubles: int
    gone: int
    reviewed: int
    boxes: int


@dataclass(frozen=True)
class _Batch:
    """What is to be on the server: tasks in the order of the round, of tiles of one label set."""

    row: RoundRow
    tiles: Mapping[int, TileRecord]
    tasks: list[TileTask]
    label_set: LabelSet
    reviewed: int

    @property
    def boxes(self) -> int:
        return sum(len(_shown(task)) for task in self.tasks)


def push(
    workspace: Workspace, server: AnnotationServer, image_url: ImageUrl, config: PushConfig, *, progress: Progress = silent
) -> PushReport:
    """Bring the round's unreviewed tiles to the server, in the order of the round; what is there already is left or brought up to date.

    Every task carries a key of this workspace and tile, by which it is found again: a push that was cut off anywhere goes on without
    making a second task. Tasks, predictions and answers of others are never touched.

    Args:
        workspace: whose round it is.
        server: where to.
        image_url: by tile id, the signed address from which the annotator's browser loads its picture.
        config: which round, and how.
        progress: called before every request that adds or changes tasks.

    Raises:
        BadInput: no such round, no classes, the project is gone or asks too few annotators.
        LabelSetMismatch: the project's configuration was changed, or the round's predictions speak of other classes.
        NothingToDo: every tile of the round is reviewed.
        UsageError: local files without the folder that they are served from.
        TilehawkError: the server cannot be reached.
    """
    with workspace.worker_lock("push"):
        with workspace.session() as session:
            key = remote.workspace_key(session)
        pictures = _pictures(config, image_url, key)
        with workspace.session(write=False) as session:
            batch = _batch(workspace, session, pictures, config, key)
        project, there = _project(workspace, server, config, batch.label_set, key)
        reconcile.require_fitting(server, there, batch.label_set, config.annotators)
        pictures.prepare(server, there.id)
        difference = reconcile.bring_home(workspace, server, project, there, key)
        with workspace.session() as session:
            known = remote.tasks_of(session, project, [task.tile_id for task in batch.tasks])
            _learn_what_is_shown(known, batch)
        fresh, stale, unchanged = _sorted({tile: (row.content_hash, row.created) for tile, row in known.items()}, batch, config)
        total = len(fresh) + len(stale)
        for start in range(0, len(fresh), config.chunk):
            progress(start, total, "adding tasks")
            going_on = partial(progress, start, total, "bringing pictures")
            chunk = _with_pictures(workspace, pictures, batch, fresh[start : start + config.chunk], going_on)
            _add(workspace, server, project, batch, chunk)
        for done, task in enumerate(stale, start=len(fresh)):
            progress(done, total, "updating tasks")
            going_on = partial(progress, done, total, "bringing pictures")
            _replace(workspace, server, project, batch, *_with_pictures(workspace, pictures, batch, [task], going_on))
        progress(total, total, "pushed")
        late = reconcile.doubles_of_a_late_import(workspace, server, project, key)
        report = PushReport(
            round=batch.row.number,
            server=server.address,
            project=there.id,
            title=there.title,
            pushed=len(fresh),
            updated=len(stale),
            unchanged=unchanged,
            found=difference.found,
            removed=len(difference.doubles) + late,
            reviewed=batch.reviewed,
            boxes=batch.boxes,
        )
        with workspace.session() as session:
            ledger.record(session, "push", round=report.round, project=report.project, pushed=report.pushed, updated=report.updated)
        return report


def plan_push(
    workspace: Workspace, server: AnnotationServer, image_url: ImageUrl, config: PushConfig, *, progress: Progress = silent
) -> PushPlan:
    """Say what :func:`push` would do with the same arguments; reads, and changes nothing here or there.

    Raises:
        as push, but for what :attr:`PushPlan.problems` names.
    """
    with workspace.session(write=False) as session:
        key = remote.known_workspace_key(session) or ""
        batch = _batch(workspace, session, _pictures(config, image_url, key), config, key)
    progress(0, 0, "asking what is there")
    project, there = reconcile.known_project(workspace, server, key, another=config.new_project)
    difference = reconcile.Difference()
    known: dict[int, tuple[str, float]] = {}
    if project is not None and there is not None:
        difference = reconcile.look_over_there(workspace, server, project, there, key)
        with workspace.session(write=False) as session:
            rows = remote.tasks_of(session, project).values()
            known = {row.tile_id: (row.content_hash, row.created) for row in rows if int(row.remote_id) not in difference.gone}
        known |= {tile: (task.content_hash, time.time()) for tile, task in difference.adopted.items()}
    fresh, stale, unchanged = _sorted(known, batch, config)
    return PushPlan(
        round=batch.row.number,
        server=server.address,
        project=None if there is None else there.id,
        title=_title(workspace, config) if there is None else there.title,
        problems=() if there is None else _problems(server, there, batch.label_set, config),
        add=len(fresh),
        update=len(stale),
        unchanged=unchanged,
        found=difference.found,
        doubles=len(difference.doubles),
        gone=len(difference.gone),
        reviewed=batch.reviewed,
        boxes=batch.boxes,
    )


def _pictures(config: PushConfig, image_url: ImageUrl, key: str) -> TaskPictures:
    if config.images == "signed":
        return SignedPictures(image_url)
    if config.images == "upload":
        return UploadedPictures()
    if config.local_root is None:
        raise UsageError(
            "images = local-files without local_root",
            expected="the folder that the annotation server serves files from",
            remedy="For example --set images=local-files --set local_root=/srv/pictures",
        )
    return LocalPictures(config.local_root, config.local_root_there or str(config.local_root), key)


def _with_pictures(
    workspace: Workspace, pictures: TaskPictures, batch: _Batch, tasks: Sequence[TileTask], going_on: Callable[[], None]
) -> list[TileTask]:
    """The tasks, whose pictures are where they say now."""
    addresses = pictures.provide(workspace, [batch.tiles[task.tile_id] for task in tasks], going_on)
    return [replace(task, image=addresses.get(task.tile_id, task.image)) for task in tasks]


def _batch(workspace: Workspace, session: Session, pictures: TaskPictures, config: PushConfig, key: str) -> _Batch:
    row = get_round(session, config.round)
    links = round_tiles(session, row)
    classes = label_set(session)
    records = {tile.id: tile for tile in tiles(session, ids=[link.tile_id for link in links], reviewed=False)}
    if not records:
        raise NothingToDo(f"all {len(links)} tiles of round {row.number} are reviewed", remedy="Rank the next round: tilehawk rank")
    detections = round_detections(workspace, session, row)
    accepted = tile_boxes(session, list(records.values()))
    tasks = []
    for link in links:
        if link.tile_id in records:
            tile = records[link.tile_id]
            shown = _suggestion(tile, detections, accepted[tile.id], config.shown_score)
            tasks.append(_task(tile, shown, classes, key, pictures.address(tile), str(link.reasons.get("why", ""))))
    return _Batch(row, records, tasks, classes, len(links) - len(records))


def _suggestion(tile: TileRecord, detections: RoundDetections, accepted: Boxes, shown_score: float) -> Suggestion | None:
    shown = shown_boxes(detections.of_tile(tile.id), accepted, shown_score)
    assert shown.scores is not None
    side = [tile.window.width, tile.window.height]
    clipped = np.clip(shown.xyxy, 0, [*side, *side])
    kept = np.flatnonzero((clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf) >= SMALLEST_SHOWN_PIXELS)
    if not len(kept):
        return None
    scores = shown.scores[kept[kept >= len(accepted)]]
    model = detections.model or ACCEPTED
    return Suggestion(Boxes(clipped[kept], shown.labels[kept]), model, float(scores.mean()) if len(scores) else None)


def _task(tile: TileRecord, shown: Suggestion | None, classes: LabelSet, key: str, image: str, reason: str) -> TileTask:
    window = tile.window
    boxes = [] if shown is None else remote.shown_rows(shown.boxes_tile)
    content = [tile.content_hash, image.partition("?")[0], boxes, shown and shown.model, classes.fingerprint]
    return TileTask(
        key=remote.task_key(key, tile.id),
        tile_id=tile.id,
        content_hash=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        image=image,
        width=window.width,
        height=window.height,
        scene=tile.scene_name,
        x=window.x,
        y=window.y,
        reason=reason,
        suggestion=shown,
    )


def _project(
    workspace: Workspace, server: AnnotationServer, config: PushConfig, classes: LabelSet, key: str
) -> tuple[RemoteProject, ServerProject]:
    """The project that this workspace pushes to, made and written down where it is not."""
    row, there = reconcile.known_project(workspace, server, key, another=config.new_project)
    if row is not None and there is not None:
        return row, there
    with workspace.session(write=False) as session:
        marker = remote.project_marker(key, len(remote.projects(session, server.address)) + 1)
    there = there or server.make_project(_title(workspace, config), marker, classes, annotators=config.annotators)
    with workspace.session() as session:
        row = remote.add_project(
            session,
            server=server.address,
            remote_id=there.id,
            title=there.title,
            label_config=there.label_config,
            label_set_fingerprint=classes.fingerprint,
        )
    return row, there


def _title(workspace: Workspace, config: PushConfig) -> str:
    return config.title or f"Tilehawk: {workspace.root.name}"[:50]


def _problems(server: AnnotationServer, there: ServerProject, classes: LabelSet, config: PushConfig) -> tuple[str, ...]:
    try:
        reconcile.require_fitting(server, there, classes, config.annotators)
    except BadInput as refusal:
        return (str(refusal),)
    return ()


def _learn_what_is_shown(known: Mapping[int, RemoteTask], batch: _Batch) -> None:
    """Tasks that show just what they would show now are noted as showing it, and all as being of this round."""
    for task in batch.tasks:
        if row := known.get(task.tile_id):
            row.round_id = batch.row.id
            row.shown = remote.shown_rows(_shown(task)) if row.content_hash == task.content_hash else row.shown


def _sorted(known: Mapping[int, tuple[str, float]], batch: _Batch, config: PushConfig) -> tuple[list[TileTask], list[TileTask], int]:
    """The tasks to add, those to bring up to date, and how many are there just so.

    Args:
        known: by tile, the content hash of its task and when that was pushed.
        batch: what is to be there.
        config: how old a signed address may be.
    """
    oldest = time.time() - config.renew_days * 86400 if config.images == "signed" else 0.0
    fresh = [task for task in batch.tasks if task.tile_id not in known]
    there = [(task, *known[task.tile_id]) for task in batch.tasks if task.tile_id in known]
    stale = [task for task, content_hash, pushed in there if content_hash != task.content_hash or pushed < oldest]
    return fresh, stale, len(there) - len(stale)


def _add(workspace: Workspace, server: AnnotationServer, project: RemoteProject, batch: _Batch, tasks: Sequence[TileTask]) -> None:
    ids = server.add_tasks(int(project.remote_id), tasks, batch.label_set)
    with workspace.session() as session:
        remote.add_tasks(session, project, [_written(task, number) for task, number in zip(tasks, ids, strict=True)], round_id=batch.row.id)


def _replace(workspace: Workspace, server: AnnotationServer, project: RemoteProject, batch: _Batch, task: TileTask) -> None:
    with workspace.session(write=False) as session:
        number = int(remote.tasks_of(session, project, [task.tile_id])[task.tile_id].remote_id)
    server.replace_task(number, task, batch.label_set)
    with workspace.session() as session:
        remote.add_tasks(session, project, [_written(task, number)], round_id=batch.row.id)


def _written(task: TileTask, number: int) -> remote.PushedTask:
    return remote.PushedTask(task.tile_id, number, task.content_hash, _shown(task))


def _shown(task: TileTask) -> Boxes:
    return Boxes.empty() if task.suggestion is None else task.suggestion.boxes_tile
