"""``pull``: what annotators answered on an annotation server, as annotations."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field
from sqlalchemy.orm import Session

from engine.annotation_server import AnnotationServer, Answer, AnswerPage, Cursor, DrawnBoxes, TaskAnswers
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.annotations import label_set
from engine.catalog.reviews import ReviewBatch, save_review
from engine.catalog.schema import RemoteProject, RemoteTask
from engine.catalog.visits import Opening
from engine.catalog.withdrawals import saved_here_since, withdraw
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo
from engine.evaluation.agreement import pairwise_f1, together
from engine.label_set import LabelSet
from engine.progress import Progress, silent

__all__ = ["HeldAnswer", "PullConfig", "PullReport", "pull"]

SOURCE = "label-studio"
MOST_NOTES = 100
LONGEST_NAME = 128


class PullConfig(StageConfig):
    """How answers are asked for, and what several answers to one tile are worth."""

    full: bool = False
    """Look at every task again, in place of those that changed: afterwards the catalog says what the server says."""
    several: Literal["latest", "majority", "all"] | None = None
    """Where several people submitted an answer: take the `latest`; the boxes that the `majority`, more than half of them, drew; or `all`
    boxes. The boxes of one object are averaged. None for what the pull before took, at first the latest; another one than that looks at
    every task again."""
    agree_iou: float | None = Field(default=None, gt=0, le=1)
    """Boxes of two people are of one object where they are of one class and overlap (IoU) by this much; None as before, at first 0.5."""
    overlap_seconds: float = Field(default=60.0, ge=0)
    """How far behind the last answer taken in the next pull looks again: a server does not finish changes in the order of their times."""
    page: int = Field(default=500, ge=1, le=1000)
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
    the boxes; ``known``: answers looked at again and taken in before; ``skipped``: tasks that annotators passed over; ``withdrawn``:
    answers deleted on the server, of which what they had brought is taken back, and the tile waits again; ``kept``: changes over there
    that are older than what somebody saved here, which stays; ``missing``: tasks that a full pull did not find, of which the answers stay;
    ``foreign``: tasks in the projects that are not of this workspace; ``conflicts``: answers with classes that are not ours, and
    ``rejected``: with boxes that are none, both held back; ``held``: all answers held back by now; ``waiting``: tasks without an answer in
    the catalog; ``several``: tiles taken in now that several people answered, and ``agreement`` between them: the mean F1 of pairs in
    [0, 1], None without such a tile; ``gone``: projects that the server no longer has.
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
    kept: int = 0
    missing: int = 0
    foreign: int = 0
    held: int = 0
    waiting: int = 0
    several: int = 0
    agreement: float | None = None
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
    agreements: list[float] = field(default_factory=list)


def pull(workspace: Workspace, server: AnnotationServer, config: PullConfig, *, progress: Progress = silent) -> PullReport:
    """Take in what changed on the server since the last pull; the same answer is taken in once, however often it is seen.

    An answer without boxes reviews its tile as background; a skipped task does not review it, unless somebody else submitted an answer. An
    answer that was deleted on the server is taken back, but not what somebody saved here afterwards. Where a task or a project was deleted
    there as a whole, its answers stay. How far the pull has come is written in the very transaction that takes the answers in, by the
    server's clock.

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
            before = remote.policy(session)
            policy = remote.Policy(config.several or before.several, config.agree_iou or before.agree_iou)
            reader = _Reader(key, label_set(session), policy, config, full=config.full or policy != before)
        tally, gone = _Tally(), []
        for project in projects:
            try:
                there = server.project(int(project.remote_id))
            except BadInput as missing:
                gone.append((project, missing))
                continue
            _pull_project(workspace, server, project, there.tasks, reader=reader, tally=tally, progress=progress)
        if len(gone) == len(projects):
            raise gone[-1][1]
        with workspace.session() as session:
            remote.note_policy(session, policy)
            waiting, held = remote.waiting(session), remote.waiting(session, state=remote.HELD)
        return PullReport(
            server=server.address,
            **tally.counts,
            held=held,
            waiting=waiting,
            several=len(tally.agreements),
            agreement=float(np.mean(tally.agreements)) if tally.agreements else None,
            conflicts=tuple(tally.conflicts),
            rejected=tuple(tally.rejected),
            notes=tuple(tally.notes[:MOST_NOTES]),
            gone=tuple(f"project {project.remote_id} ({project.title})" for project, _ in gone),
        )


@dataclass(frozen=True)
class _Reader:
    """How keys, classes and several answers are read."""

    key: str
    label_set: LabelSet
    policy: remote.Policy
    config: PullConfig
    full: bool

    def counted(self, submitted: Sequence[Answer]) -> Sequence[Answer]:
        """Those of the answers, one an annotator and the oldest first, that the policy looks at."""
        return submitted[-1:] if self.policy.several == "latest" else submitted

    def digest(self, counted: Sequence[Answer]) -> str:
        """Changes with whatever is taken in of these answers."""
        if len(counted) == 1:
            return counted[0].digest
        parts = [self.policy.several, str(self.policy.agree_iou), *(answer.digest for answer in counted)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def joined(self, drawn: Sequence[DrawnBoxes]) -> Boxes:
        """What the counted answers say together."""
        return together([each.boxes_tile for each in drawn], self.policy.agree_iou, majority=self.policy.several == "majority")


def _pull_project(
    workspace: Workspace,
    server: AnnotationServer,
    project: RemoteProject,
    tasks: int,
    *,
    reader: _Reader,
    tally: _Tally,
    progress: Progress,
) -> None:
    config = reader.config
    position = Cursor() if reader.full else remote.cursor_of(project).back(config.overlap_seconds)
    seen: set[int] = set()
    progress(0, tasks, f"asking for answers: {project.title}")
    for page in _pages(server, int(project.remote_id), position, config.page):
        pending = _Tally()
        with workspace.session() as session:
            _take_in(session, session.get_one(RemoteProject, project.id), page.tasks, reader, pending)
        _merge(tally, pending)
        seen |= {task.task_id for task in page.tasks}
        progress(min(len(seen), tasks), tasks, f"asking for answers: {project.title}")
    if reader.full:
        with workspace.session(write=False) as session:
            known = {int(row.remote_id) for row in remote.tasks_of(session, project).values()}
        tally.counts["missing"] += len(known - seen)
    progress(tasks, tasks, f"pulled: {project.title}")


def _pages(server: AnnotationServer, project_id: int, position: Cursor, size: int) -> Iterator[AnswerPage]:
    """Page after page of what changed since ``position``; the server works on the next one while a page is taken in."""
    ahead = ThreadPoolExecutor(1, thread_name_prefix="pull")
    try:
        coming = ahead.submit(server.answers, project_id, position, size)
        while True:
            page = coming.result()
            if page.complete or not page.tasks:
                yield page
                return
            coming = ahead.submit(server.answers, project_id, page.tasks[-1].position, size)
            yield page
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)


def _merge(tally: _Tally, more: _Tally) -> None:
    tally.counts.update(more.counts)
    tally.conflicts += more.conflicts
    tally.rejected += more.rejected
    tally.notes += more.notes
    tally.agreements += more.agreements


def _take_in(session: Session, project: RemoteProject, page: Sequence[TaskAnswers], reader: _Reader, tally: _Tally) -> None:
    """Apply a page and advance the cursor past it, in the caller's transaction."""
    named = {said.task_id: remote.tile_of_key(reader.key, said.key) for said in page}
    wanted = [tile for tile in named.values() if tile is not None]
    rows, batch = remote.tasks_of(session, project, wanted), ReviewBatch(session, wanted)
    for said in page:
        tile_id = named[said.task_id]
        task = rows.get(tile_id) if tile_id is not None else remote.find_task(session, project, remote_id=said.task_id)
        if task is None and tile_id is not None and tile_id in batch:
            [task] = remote.add_tasks(session, project, [remote.PushedTask(tile_id, said.task_id, "")])
            rows[tile_id] = task
        submitted = _newest_of_each(said.answers)
        if task is None:
            tally.counts["foreign"] += 1
        elif not _speaks_for(task, said, submitted):
            tally.counts["known"] += 1
        elif submitted:
            if task.tile_id not in batch:
                batch.read([task.tile_id])
            _take_answers(session, task, batch, said, submitted, reader, tally)
        else:
            tally.counts["skipped"] += bool(said.answers)
            _take_back(session, task, batch, said, tally)
    batch.settle_rounds()
    if page:
        remote.advance(project, page[-1].position)


def _speaks_for(task: RemoteTask, said: TaskAnswers, submitted: Sequence[Answer]) -> bool:
    """Whether ``said`` is the task of its tile: of two that an interrupted push had made, and both answered, the newer answer's."""
    if task.remote_id == str(said.task_id):
        return True
    if max((answer.at for answer in submitted), default="") <= (task.applied_at or ""):
        return False
    task.remote_id = str(said.task_id)
    return True


def _newest_of_each(answers: Sequence[Answer]) -> list[Answer]:
    """The newest submitted answer of each annotator, the oldest first; one without a name is an annotator of its own."""
    newest = {answer.annotator or answer.id: answer for answer in answers if answer.kind == "submitted"}
    return [answer for answer in answers if newest.get(answer.annotator or answer.id) is answer]


def _origin(task: RemoteTask, said: TaskAnswers) -> str:
    """What reviews by the answers of a task carry in the ledger, so that they can be taken back."""
    return f"{task.project_id}/{said.task_id}"


def _take_back(session: Session, task: RemoteTask, batch: ReviewBatch, said: TaskAnswers, tally: _Tally) -> None:
    """Nobody's answer stands: undo what was taken in, and let the tile wait again."""
    if task.applied_hash is None:
        return
    undone = withdraw(session, task.tile_id, _origin(task, said))
    batch.read([task.tile_id])
    kept = undone is not None and undone.kept
    task.applied_hash, task.applied_at = None, None
    task.state = remote.ANNOTATED if kept else remote.PUSHED
    tally.counts["kept" if kept else "withdrawn"] += 1


def _take_answers(
    session: Session, task: RemoteTask, batch: ReviewBatch, said: TaskAnswers, submitted: Sequence[Answer], reader: _Reader, tally: _Tally
) -> None:
    counted = reader.counted(submitted)
    digest, at = reader.digest(counted), max(answer.at for answer in counted)
    if digest == task.applied_hash:
        tally.counts["known"] += 1
        return
    nothing_newer = task.applied_at is not None and at <= task.applied_at
    task.applied_hash, task.applied_at = digest, at
    if nothing_newer and saved_here_since(session, task.tile_id, _origin(task, said)):
        tally.counts["kept"] += 1
        return
    _apply(session, task, batch, said, submitted, reader, tally)


def _apply(
    session: Session, task: RemoteTask, batch: ReviewBatch, said: TaskAnswers, submitted: Sequence[Answer], reader: _Reader, tally: _Tally
) -> None:
    window = batch.tile(task.tile_id).window
    size = (window.width, window.height)
    everybody = {answer.id: answer.read(*size, reader.label_set) for answer in submitted}
    counted = reader.counted(submitted)
    drawn = [everybody[answer.id] for answer in counted]
    who = ", ".join(answer.annotator for answer in counted if answer.annotator)[:LONGEST_NAME] or None
    _remember(session, task, who, drawn)
    tally.notes += [f"tile {task.tile_id}: {note}" for each in drawn for note in each.notes]
    conflicts = tuple(words for each in drawn for words in each.conflicts)
    rejected = tuple(words for each in drawn for words in each.rejected)
    tally.conflicts += [HeldAnswer(task.tile_id, said.task_id, conflicts)] if conflicts else []
    tally.rejected += [HeldAnswer(task.tile_id, said.task_id, rejected)] if rejected else []
    if conflicts or rejected:
        task.state = remote.HELD
        return
    boxes = reader.joined(drawn)
    seconds = [answer.seconds for answer in counted if answer.seconds is not None]
    shown = remote.shown_boxes(task)
    task.state = remote.ANNOTATED
    saved = save_review(
        session,
        task.tile_id,
        boxes,
        source=SOURCE,
        annotator=who,
        seconds=sum(seconds) if seconds else None,
        complete=True,
        seconds_in_all=True,
        opening=Opening(shown) if shown is not None and len(counted) == 1 else None,
        origin=_origin(task, said),
        batch=batch,
    )
    tally.counts["tiles"] += 1
    tally.counts["empty"] += not len(boxes)
    for kind in ("added", "moved", "relabelled", "removed", "unchanged"):
        tally.counts[kind] += getattr(saved, kind)
    agreed = pairwise_f1([each.boxes_tile for each in everybody.values()], reader.policy.agree_iou)
    if agreed is not None:
        tally.agreements.append(agreed)
        remote.note_agreement(session, task, annotators=len(everybody), f1=agreed)


def _remember(session: Session, task: RemoteTask, who: str | None, drawn: Sequence[DrawnBoxes]) -> None:
    """Keep in the ledger what was not taken as it was drawn."""
    words = {kind: [each for one in drawn for each in getattr(one, kind)] for kind in ("notes", "rejected", "conflicts")}
    if any(words.values()):
        named = {kind: found for kind, found in words.items() if found}
        remote.note_answer(session, task, annotator=who, at=task.applied_at, **named)
