"""``pull``: what annotators answered on an annotation server, as annotations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Literal

import numpy as np
from pydantic import Field

from engine.annotation_server import AnnotationServer, AnswerPage, Cursor
from engine.catalog import remote
from engine.catalog.annotations import label_set
from engine.catalog.schema import RemoteProject
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import Missing, NothingToDo
from engine.progress import Progress, silent
from engine.stages.answers import AnswerReader, HeldAnswer, Tally, take_in

__all__ = ["PullConfig", "PullReport", "pull"]

MOST_NOTES = 100


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


def pull(workspace: Workspace, server: AnnotationServer, config: PullConfig, *, progress: Progress = silent) -> PullReport:
    """Take in what changed on the server since the last pull; the same answer is taken in once, however often it is seen.

    An answer without boxes reviews its tile as background; a skipped task does not review it, unless somebody else submitted an answer. An
    answer that was deleted on the server is taken back, but not what somebody saved here afterwards. Where a task or a project was deleted
    there as a whole, its answers stay. How far the pull has come is written in the very transaction that takes the answers in, by the
    server's clock.

    Raises:
        Missing: the projects are gone.
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
            reader, full = AnswerReader(key, label_set(session), policy), config.full or policy != before
            if policy != before:
                remote.note_policy(session, policy)
                remote.look_again(session)
        tally, gone = Tally(), []
        for project in projects:
            try:
                there = server.project(int(project.remote_id))
            except Missing as missing:
                gone.append((project, missing))
                continue
            _pull_project(workspace, server, project, there.tasks, config, full=full, reader=reader, tally=tally, progress=progress)
        if len(gone) == len(projects):
            raise gone[-1][1]
        with workspace.session() as session:
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


def _pull_project(
    workspace: Workspace,
    server: AnnotationServer,
    project: RemoteProject,
    tasks: int,
    config: PullConfig,
    *,
    full: bool,
    reader: AnswerReader,
    tally: Tally,
    progress: Progress,
) -> None:
    position = Cursor() if full else remote.cursor_of(project).back(config.overlap_seconds)
    seen: set[int] = set()
    progress(0, tasks, f"asking for answers: {project.title}")
    for page in _pages(server, int(project.remote_id), position, config.page):
        pending = Tally()
        with workspace.session() as session:
            take_in(session, session.get_one(RemoteProject, project.id), page.tasks, reader, pending)
        tally.add(pending)
        seen |= {task.task_id for task in page.tasks}
        progress(min(len(seen), tasks), tasks, f"asking for answers: {project.title}")
    if full:
        with workspace.session(write=False) as session:
            known = {int(row.remote_id) for row in remote.tasks_of(session, project).values()}
        tally.counts["missing"] += len(known - seen)
    progress(tasks, tasks, f"pulled: {project.title}")


def _pages(server: AnnotationServer, project_id: int, position: Cursor, size: int) -> Iterator[AnswerPage]:
    """Page after page of what changed since ``position``; the server works on the next one while a page is taken in."""
    coming = _Asked(partial(server.answers, project_id, position, size))
    while True:
        page = coming.answer()
        if page.complete or not page.tasks:
            yield page
            return
        coming = _Asked(partial(server.answers, project_id, page.tasks[-1].position, size))
        yield page


class _Asked:
    """A request under way in a thread that no stop of the process waits for."""

    def __init__(self, ask: Callable[[], AnswerPage]) -> None:
        self._answer: SimpleQueue[AnswerPage | BaseException] = SimpleQueue()
        threading.Thread(target=self._run, args=(ask,), name="pull", daemon=True).start()

    def _run(self, ask: Callable[[], AnswerPage]) -> None:
        try:
            self._answer.put(ask())
        except BaseException as failed:  # noqa: BLE001 - raised again by whoever waits
            self._answer.put(failed)

    def answer(self) -> AnswerPage:
        """What came, once."""
        answer = self._answer.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer
