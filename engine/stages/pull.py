"""``pull``: what annotators answered on an annotation server, as annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field
from sqlalchemy.orm import Session

from engine.annotation_server import AnnotationServer, Answer, DrawnBoxes
from engine.catalog import ledger, remote
from engine.catalog.annotations import label_set
from engine.catalog.reviews import save_review
from engine.catalog.schema import RemoteProject, RemoteTask
from engine.catalog.tiles import tiles
from engine.catalog.visits import Opening
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo
from engine.label_set import LabelSet
from engine.progress import Progress, silent

__all__ = ["HeldAnswer", "PullConfig", "PullReport", "pull"]

SOURCE = "label-studio"
MOST_NOTES = 100


class PullConfig(StageConfig):
    """How answers are asked for."""

    overlap_seconds: float = Field(default=60.0, ge=0)
    """How far behind the last answer taken in the next pull looks again: a server does not finish changes in the order of their times."""
    page: int = Field(default=200, ge=1, le=1000)
    """Tasks in one request; each page is taken in as a whole or not at all."""


@dataclass(frozen=True)
class HeldAnswer:
    """An answer that is not taken in before somebody mends it on the server: the tile stays open, nothing of it is changed."""

    tile: int
    task: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class PullReport:
    """What came in.

    ``tiles``: answers taken in now, ``empty`` of them without a box: reviewed as background; ``added`` to ``unchanged``: what they did to
    the boxes; ``known``: answers looked at again and taken in before; ``skipped``: tasks that annotators passed over; ``withdrawn``: tasks
    whose answer was deleted on the server after it was taken in, which stays; ``foreign``: tasks in the projects that are not of this
    workspace; ``conflicts``: answers with classes that are not ours, and ``rejected``: with boxes that are none, both held back; ``held``:
    all answers held back by now; ``waiting``: tasks without an answer in the catalog; ``gone``: projects that the server no longer has.
    """

    server: str
    tiles: int = 0
    empty: int = 0
    added: int = 0
    moved: int = 0
    relabelled: int = 0
    removed: int = 0
    unchanged: int = 0
    known: int = 0
    skipped: int = 0
    withdrawn: int = 0
    foreign: int = 0
    held: int = 0
    waiting: int = 0
    conflicts: tuple[HeldAnswer, ...] = ()
    rejected: tuple[HeldAnswer, ...] = ()
    notes: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass
class _Tally:
    counts: Counter[str] = field(default_factory=Counter)
    conflicts: list[HeldAnswer] = field(default_factory=list)
    rejected: list[HeldAnswer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pull(workspace: Workspace, server: AnnotationServer, config: PullConfig, *, progress: Progress = silent) -> PullReport:
    """Take in what changed on the server since the last pull; the same answer is taken in once, however often it is seen.

    The newest submitted answer of a task counts. One without boxes reviews its tile as background; a skipped task does not review it.
    How far the pull has come is written in the very transaction that takes the answers in, by the server's clock.

    Raises:
        BadInput: the projects are gone.
        NothingToDo: nothing was pushed to this server.
        TilehawkError: the server cannot be reached.
    """
    with workspace.worker_lock("pull"):
        with workspace.session(write=False) as session:
            projects = remote.projects(session, server.address)
        if not projects:
            raise NothingToDo(f"nothing was pushed to {server.address}", remedy="Push a round: tilehawk push")
        with workspace.session() as session:
            key = remote.workspace_key(session)
            reader = _Reader(key, label_set(session))
        tally, gone = _Tally(), []
        for project in projects:
            try:
                there = server.project(int(project.remote_id))
            except BadInput as missing:
                gone.append((project, missing))
                continue
            _pull_project(workspace, server, project, there.tasks, reader=reader, config=config, tally=tally, progress=progress)
        if len(gone) == len(projects):
            raise gone[-1][1]
        with workspace.session(write=False) as session:
            waiting, held = remote.waiting(session), remote.waiting(session, state=remote.HELD)
        return PullReport(
            server=server.address,
            **tally.counts,
            held=held,
            waiting=waiting,
            conflicts=tuple(tally.conflicts),
            rejected=tuple(tally.rejected),
            notes=tuple(tally.notes[:MOST_NOTES]),
            gone=tuple(f"project {project.remote_id} ({project.title})" for project, _ in gone),
        )


@dataclass(frozen=True)
class _Reader:
    """How keys and classes are read."""

    key: str
    label_set: LabelSet


def _pull_project(
    workspace: Workspace,
    server: AnnotationServer,
    project: RemoteProject,
    tasks: int,
    *,
    reader: _Reader,
    config: PullConfig,
    tally: _Tally,
    progress: Progress,
) -> None:
    position = remote.cursor_of(project).back(config.overlap_seconds)
    seen = 0
    while True:
        progress(min(seen, tasks), tasks, f"asking for answers: {project.title}")
        page = server.answers(int(project.remote_id), position, config.page)
        pending = _Tally()
        with workspace.session() as session:
            _take_in(session, session.get_one(RemoteProject, project.id), page.answers, reader, pending)
        _merge(tally, pending)
        seen += len(page.answers)
        if page.complete or not page.answers:
            break
        position = page.answers[-1].position
    progress(tasks, tasks, f"pulled: {project.title}")


def _merge(tally: _Tally, more: _Tally) -> None:
    tally.counts.update(more.counts)
    tally.conflicts += more.conflicts
    tally.rejected += more.rejected
    tally.notes += more.notes


def _take_in(session: Session, project: RemoteProject, answers: Sequence[Answer], reader: _Reader, tally: _Tally) -> None:
    """Apply a page and advance the cursor past it, in the caller's transaction."""
    for answer in answers:
        task = _task_of(session, project, answer, reader)
        if task is None:
            tally.counts["foreign"] += 1
        elif answer.kind == "none":
            tally.counts["withdrawn"] += task.applied_hash is not None
        elif answer.kind == "skipped":
            tally.counts["skipped"] += 1
        elif answer.digest == task.applied_hash or (task.applied_at is not None and answer.at < task.applied_at):
            tally.counts["known"] += 1
        else:
            _apply(session, project, task, answer, reader, tally)
    if answers:
        remote.advance(project, answers[-1].position)


def _task_of(session: Session, project: RemoteProject, answer: Answer, reader: _Reader) -> RemoteTask | None:
    """The task of an answer, by the tile that its key names; a task of ours that an interrupted push left unrecorded is recorded."""
    tile_id = remote.tile_of_key(reader.key, answer.key)
    row = remote.find_task(session, project, tile_id=tile_id, remote_id=answer.task_id)
    if row is None and tile_id is not None and tiles(session, ids=[tile_id]):
        [row] = remote.add_tasks(session, project, [remote.PushedTask(tile_id, answer.task_id, "")])
    return row


def _apply(session: Session, project: RemoteProject, task: RemoteTask, answer: Answer, reader: _Reader, tally: _Tally) -> None:
    [tile] = tiles(session, ids=[task.tile_id])
    drawn = answer.read(tile.window.width, tile.window.height, reader.label_set)
    task.applied_hash, task.applied_at = answer.digest, answer.at
    _remember(session, project, task, answer, drawn)
    tally.notes += [f"tile {task.tile_id}: {note}" for note in drawn.notes]
    if drawn.conflicts or drawn.rejected:
        task.state = remote.HELD
        if drawn.conflicts:
            tally.conflicts.append(HeldAnswer(task.tile_id, answer.task_id, drawn.conflicts))
        if drawn.rejected:
            tally.rejected.append(HeldAnswer(task.tile_id, answer.task_id, drawn.rejected))
        return
    saved = save_review(
        session,
        task.tile_id,
        drawn.boxes_tile,
        source=SOURCE,
        annotator=answer.annotator,
        seconds=answer.seconds,
        complete=True,
        seconds_in_all=True,
        opening=None if (shown := remote.shown_boxes(task)) is None else Opening(shown),
    )
    task.state = remote.ANNOTATED
    tally.counts["tiles"] += 1
    tally.counts["empty"] += not len(drawn.boxes_tile)
    for kind in ("added", "moved", "relabelled", "removed", "unchanged"):
        tally.counts[kind] += getattr(saved, kind)


def _remember(session: Session, project: RemoteProject, task: RemoteTask, answer: Answer, drawn: DrawnBoxes) -> None:
    """Keep in the ledger what was not taken as it was drawn."""
    said = {"notes": drawn.notes, "rejected": drawn.rejected, "conflicts": drawn.conflicts}
    if any(said.values()):
        place = {"project": project.remote_id, "task": answer.task_id, "tile": task.tile_id, "annotator": answer.annotator, "at": answer.at}
        ledger.record(session, "answer", **place, **{name: list(words) for name, words in said.items() if words})
