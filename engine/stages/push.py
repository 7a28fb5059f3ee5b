"""``push``: the tiles of a round, as tasks on an annotation server."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from sqlalchemy.orm import Session

from engine.annotation_server import ACCEPTED, MOST_TASKS_AT_ONCE, AnnotationServer, KnownTask, ServerProject, Suggestion, TileTask
from engine.boxes import Boxes
from engine.catalog import ledger, remote
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.predictions import RoundDetections, round_detections
from engine.catalog.rounds import get_round, round_tiles
from engine.catalog.schema import RemoteProject, RoundRow
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.label_set import LabelSet
from engine.progress import Progress, silent
from engine.simulation.oracle import shown_boxes

__all__ = ["PushConfig", "PushReport", "push"]

SMALLEST_SHOWN_PIXELS = 1.01


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
class _Batch:
    """What is to be on the server: tasks in the order of the round, of tiles of one label set."""

    row: RoundRow
    tasks: list[TileTask]
    label_set: LabelSet
    reviewed: int


def push(
    workspace: Workspace, server: AnnotationServer, image_url: Callable[[int], str], config: PushConfig, *, progress: Progress = silent
) -> PushReport:
    """Bring the round's unreviewed tiles to the server, in the order of the round; what is there already is left or brought up to date.

    Every task carries a key of this workspace and tile, by which it is found again: a push that was cut off anywhere goes on without
    making a second task. Tasks, predictions and answers of others are never touched.

    Args:
        workspace: whose round it is.
        server: where to.
        image_url: by tile id, the address from which the annotator's browser loads its picture.
        config: which round, and how.
        progress: called before every request that adds or changes tasks.

    Raises:
        BadInput: no such round, no classes, or the project is gone.
        LabelSetMismatch: the project's configuration was changed, or the round's predictions speak of other classes.
        NothingToDo: every tile of the round is reviewed.
        TilehawkError: the server cannot be reached.
    """
    with workspace.worker_lock("push"):
        with workspace.session() as session:
            key = remote.workspace_key(session)
        with workspace.session(write=False) as session:
            batch = _batch(workspace, session, image_url, config, key)
        project, there = _project(workspace, server, config, batch.label_set, key)
        server.require_classes(there, batch.label_set)
        found, removed = _reconcile(workspace, server, project, there, key)
        fresh, stale, unchanged = _sorted(workspace, project, batch, config)
        total = len(fresh) + len(stale)
        for start in range(0, len(fresh), config.chunk):
            progress(start, total, "adding tasks")
            _add(workspace, server, project, batch, fresh[start : start + config.chunk])
        for done, task in enumerate(stale, start=len(fresh)):
            progress(done, total, "updating tasks")
            _replace(workspace, server, project, batch, task)
        progress(total, total, "pushed")
        removed += _doubles_of_a_late_import(workspace, server, project, key)
        report = PushReport(
            round=batch.row.number,
            server=server.address,
            project=there.id,
            title=there.title,
            pushed=len(fresh),
            updated=len(stale),
            unchanged=unchanged,
            found=found,
            removed=removed,
            reviewed=batch.reviewed,
            boxes=sum(len(task.suggestion.boxes_tile) for task in batch.tasks if task.suggestion),
        )
        with workspace.session() as session:
            ledger.record(session, "push", round=report.round, project=report.project, pushed=report.pushed, updated=report.updated)
        return report


def _batch(workspace: Workspace, session: Session, image_url: Callable[[int], str], config: PushConfig, key: str) -> _Batch:
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
            tasks.append(_task(tile, shown, classes, key, image_url(tile.id), str(link.reasons.get("why", ""))))
    return _Batch(row, tasks, classes, len(links) - len(records))


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
    """The project that this workspace pushes to: the newest known, else one that was made and not written down, else a new one."""
    with workspace.session(write=False) as session:
        known = remote.projects(session, server.address)
    if known and not config.new_project:
        return known[-1], server.project(int(known[-1].remote_id))
    marker = remote.project_marker(key, len(known) + 1)
    title = config.title or f"Tilehawk: {workspace.root.name}"[:50]
    there = server.find_project(marker) or server.make_project(title, marker, classes)
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


def _reconcile(workspace: Workspace, server: AnnotationServer, project: RemoteProject, there: ServerProject, key: str) -> tuple[int, int]:
    """Learn what the server has that the catalog does not know, and forget what it no longer has.

    Only tasks newer than the newest known one are looked at, unless the counts differ or a tile has two: then all of them.

    Returns:
        How many tasks were found, and how many doubles removed.
    """
    with workspace.session(write=False) as session:
        rows = remote.tasks_of(session, project)
    if not rows and not there.tasks:
        return 0, 0
    known = {int(row.remote_id) for row in rows.values()}
    newest = max(known, default=0)
    listed = list(server.tasks(there.id, after=newest))
    complete = len(known) + len(listed) != there.tasks or any(remote.tile_of_key(key, task.key) in rows for task in listed)
    if complete and newest:
        listed = list(server.tasks(there.id))
    if complete:
        _forget(workspace, project, gone=known - {task.id for task in listed})
    found, doubles = _adopt(workspace, project, [task for task in listed if task.id not in known], key, {t.id: t for t in listed})
    for task in doubles:
        server.delete_task(task)
    return found, len(doubles)


def _doubles_of_a_late_import(workspace: Workspace, server: AnnotationServer, project: RemoteProject, key: str) -> int:
    """Remove what the server only now finished of a request that an earlier push had given up; returns how many tasks."""
    there = server.project(int(project.remote_id))
    with workspace.session(write=False) as session:
        known = remote.count_tasks(session, project)
    return 0 if known == there.tasks else _reconcile(workspace, server, project, there, key)[1]


def _forget(workspace: Workspace, project: RemoteProject, gone: set[int]) -> None:
    """Tasks that somebody deleted on the server: their tiles may be pushed anew."""
    with workspace.session() as session:
        for row in remote.tasks_of(session, project).values():
            if int(row.remote_id) in gone:
                session.delete(row)


def _adopt(
    workspace: Workspace, project: RemoteProject, unknown: Sequence[KnownTask], key: str, listed: dict[int, KnownTask]
) -> tuple[int, list[int]]:
    """Write down tasks of ours that are not; of two tasks for one tile the one that somebody worked on stays, else the first."""
    found, doubles = 0, []
    with workspace.session() as session:
        for task in unknown:
            tile_id = remote.tile_of_key(key, task.key)
            if tile_id is None or not tiles(session, ids=[tile_id]):
                continue
            row = remote.find_task(session, project, tile_id=tile_id, remote_id=task.id)
            if row is None:
                remote.add_tasks(session, project, [remote.PushedTask(tile_id, task.id, task.content_hash)])
                found += 1
            elif not task.answered:
                doubles.append(task.id)
            elif int(row.remote_id) in listed and not listed[int(row.remote_id)].answered:
                doubles.append(int(row.remote_id))
                remote.add_tasks(session, project, [remote.PushedTask(tile_id, task.id, task.content_hash)])
    return found, doubles


def _sorted(workspace: Workspace, project: RemoteProject, batch: _Batch, config: PushConfig) -> tuple[list[TileTask], list[TileTask], int]:
    """The tasks to add, those to bring up to date, and how many are there just so."""
    with workspace.session() as session:
        known = remote.tasks_of(session, project, [task.tile_id for task in batch.tasks])
        for task in batch.tasks:
            if row := known.get(task.tile_id):
                row.round_id = batch.row.id
                row.shown = remote.shown_rows(_shown(task)) if row.content_hash == task.content_hash else row.shown
    oldest = time.time() - config.renew_days * 86400
    fresh = [task for task in batch.tasks if task.tile_id not in known]
    there = [(task, known[task.tile_id]) for task in batch.tasks if task.tile_id in known]
    stale = [task for task, row in there if row.content_hash != task.content_hash or row.created < oldest]
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
