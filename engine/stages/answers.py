"""What answers on an annotation server do to the catalog: boxes and reviews, or what was taken in is taken back."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from engine.annotation_server import Answer, DrawnBoxes, TaskAnswers
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.reviews import ReviewBatch, save_review
from engine.catalog.schema import RemoteProject, RemoteTask
from engine.catalog.visits import Opening
from engine.catalog.withdrawals import saved_here_since, withdraw
from engine.evaluation.agreement import pairwise_f1, together
from engine.label_set import LabelSet

__all__ = ["AnswerReader", "HeldAnswer", "Tally", "take_in"]

SOURCE = "label-studio"
LONGEST_NAME = 128


@dataclass(frozen=True)
class HeldAnswer:
    """An answer that is not taken in before somebody mends it on the server: the tile stays open, nothing of it is changed."""

    tile: int
    task: int
    reasons: tuple[str, ...]


@dataclass
class Tally:
    """What answers did: counts by the names of :class:`engine.stages.pull.PullReport`, and what a person should see."""

    counts: Counter[str] = field(default_factory=Counter)
    conflicts: list[HeldAnswer] = field(default_factory=list)
    rejected: list[HeldAnswer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)

    def add(self, more: Tally) -> None:
        """Count what another tally counted as well."""
        self.counts.update(more.counts)
        self.conflicts += more.conflicts
        self.rejected += more.rejected
        self.notes += more.notes
        self.agreements += more.agreements


@dataclass(frozen=True)
class AnswerReader:
    """How keys, classes and several answers are read."""

    key: str
    label_set: LabelSet
    policy: remote.Policy

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


def take_in(session: Session, project: RemoteProject, page: Sequence[TaskAnswers], reader: AnswerReader, tally: Tally) -> None:
    """Take in a page of answers and advance the cursor past it, in the caller's transaction.

    Args:
        session: an open transaction that may write.
        project: where the answers are from.
        page: in the order of their positions.
        reader: how they are read.
        tally: counts what they did.
    """
    named = {said.task_id: remote.tile_of_key(reader.key, said.key) for said in page}
    wanted = [tile for tile in named.values() if tile is not None]
    rows, batch = remote.tasks_of(session, project, wanted), ReviewBatch(session, wanted)
    for said in page:
        tile_id = named[said.task_id]
        task = rows.get(tile_id) if tile_id is not None else None
        if task is None or task.remote_id != str(said.task_id):
            of_its_number = remote.find_task(session, project, remote_id=said.task_id)
            if tile_id is not None and of_its_number is not None and of_its_number.tile_id != tile_id:
                tally.counts["foreign"] += 1
                tally.notes.append(f"task {said.task_id} says that it is of tile {tile_id}, and was sent for tile {of_its_number.tile_id}")
                continue
            task = task or of_its_number
        if task is None and tile_id is not None and tile_id in batch:
            remote.add_tasks(session, project, [remote.PushedTask(tile_id, said.task_id, "")])
            task = rows[tile_id] = remote.tasks_of(session, project, [tile_id])[tile_id]
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


def _take_back(session: Session, task: RemoteTask, batch: ReviewBatch, said: TaskAnswers, tally: Tally) -> None:
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
    session: Session,
    task: RemoteTask,
    batch: ReviewBatch,
    said: TaskAnswers,
    submitted: Sequence[Answer],
    reader: AnswerReader,
    tally: Tally,
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
    session: Session,
    task: RemoteTask,
    batch: ReviewBatch,
    said: TaskAnswers,
    submitted: Sequence[Answer],
    reader: AnswerReader,
    tally: Tally,
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
    saved_here = _saved_here(session, task, batch, said)
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
    if saved_here and saved.added + saved.moved + saved.relabelled + saved.removed:
        tally.notes.append(f"tile {task.tile_id}: the answer took the place of what {saved_here} saved here; its history has that")
    agreed = pairwise_f1([each.boxes_tile for each in everybody.values()], reader.policy.agree_iou)
    if agreed is not None:
        tally.agreements.append(agreed)
        remote.note_agreement(session, task, annotators=len(everybody), f1=agreed)


def _saved_here(session: Session, task: RemoteTask, batch: ReviewBatch, said: TaskAnswers) -> str | None:
    """Who completed the tile here while its answer was on the way; None where nobody did."""
    review = batch.reviews.get(task.tile_id)
    if review is None:
        return None
    return review.by if task.state == remote.PUSHED or saved_here_since(session, task.tile_id, _origin(task, said)) else None


def _remember(session: Session, task: RemoteTask, who: str | None, drawn: Sequence[DrawnBoxes]) -> None:
    """Keep in the ledger what was not taken as it was drawn."""
    words = {kind: [each for one in drawn for each in getattr(one, kind)] for kind in ("notes", "rejected", "conflicts")}
    if any(words.values()):
        named = {kind: found for kind, found in words.items() if found}
        remote.note_answer(session, task, annotator=who, at=task.applied_at, **named)
