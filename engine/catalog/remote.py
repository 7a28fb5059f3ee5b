"""Tiles on annotation servers: which project, which task, and how far its answers were taken in."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from engine.annotation_server import Cursor
from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.schema import RemoteProject, RemoteTask
from engine.catalog.tiles import chunks

__all__ = [
    "ANNOTATED",
    "HELD",
    "PUSHED",
    "Agreement",
    "HeldTask",
    "Policy",
    "PushedTask",
    "add_project",
    "add_tasks",
    "advance",
    "agreement",
    "count_tasks",
    "cursor_of",
    "find_task",
    "held",
    "known_workspace_key",
    "look_again",
    "note_agreement",
    "note_answer",
    "note_policy",
    "policy",
    "project_marker",
    "projects",
    "shown_boxes",
    "shown_rows",
    "task_key",
    "tasks_of",
    "tile_of_key",
    "waiting",
    "workspace_key",
]

PUSHED, ANNOTATED, HELD = "pushed", "annotated", "held"
"""States of a task: no answer yet; its answer is in the catalog; its answer has something that could not be taken, and waits."""
IDENTITY, ANSWER, AGREEMENT, POLICY = "identity", "answer", "agreement", "policy"


def workspace_key(session: Session) -> str:
    """The name by which this workspace knows its own tasks on a server shared with others; decided once, in a writing transaction."""
    if (known := known_workspace_key(session)) is not None:
        return known
    key = secrets.token_hex(8)
    ledger.record(session, IDENTITY, workspace=key)
    session.flush()
    return key


def known_workspace_key(session: Session) -> str | None:
    """That name; None where it was not decided yet."""
    known = ledger.events(session, IDENTITY)
    return str(known[0].details["workspace"]) if known else None


def task_key(workspace: str, tile_id: int) -> str:
    """Our own name for a tile's task."""
    return f"{workspace}:{tile_id}"


def tile_of_key(workspace: str, key: str) -> int | None:
    """The tile that ``key`` names; None where the key is not of this workspace."""
    found = re.fullmatch(rf"{re.escape(workspace)}:([1-9]\d{{0,17}})", key)
    return None if found is None else int(found[1])


def projects(session: Session, server: str) -> list[RemoteProject]:
    """The projects that this workspace made on ``server``, the newest last."""
    return list(session.scalars(select(RemoteProject).where(RemoteProject.server == server).order_by(RemoteProject.id)))


def project_marker(workspace: str, number: int) -> str:
    """What a project of ours carries, so that it is found again when its id was never written down; ``number`` counts from 1."""
    return f"tilehawk:{workspace}:{number}"


def add_project(
    session: Session, *, server: str, remote_id: int, title: str, label_config: str, label_set_fingerprint: str
) -> RemoteProject:
    """Write down a project; one that is known already is returned as it is."""
    known = select(RemoteProject).where(RemoteProject.server == server, RemoteProject.remote_id == str(remote_id))
    row = session.scalar(known)
    if row is None:
        row = RemoteProject(server=server, remote_id=str(remote_id), title=title[:256], label_config=label_config)
        row.label_set_fingerprint = label_set_fingerprint
        row.cursor_at, row.cursor_id = "", 0
        session.add(row)
        session.flush()
    return row


def tasks_of(session: Session, project: RemoteProject, tile_ids: Sequence[int] | None = None) -> dict[int, RemoteTask]:
    """By tile id, the tasks of a project, of all tiles or of these."""
    query = select(RemoteTask).where(RemoteTask.project_id == project.id)
    queries = [query] if tile_ids is None else [query.where(RemoteTask.tile_id.in_(chunk)) for chunk in chunks(tile_ids)]
    return {row.tile_id: row for each in queries for row in session.scalars(each)}


@dataclass(frozen=True)
class PushedTask:
    """What a tile's task is now: its id on the server, the hash of what was pushed (empty where that is not known), and the boxes shown."""

    tile_id: int
    remote_id: int
    content_hash: str
    shown: Boxes | None = None


def add_tasks(session: Session, project: RemoteProject, tasks: Sequence[PushedTask], *, round_id: int | None = None) -> None:
    """Write down what the tasks of tiles are now; a tile has one task a project."""
    known, now = tasks_of(session, project, [task.tile_id for task in tasks]), time.time()
    new: list[dict[str, Any]] = []
    for task in tasks:
        written = {"remote_id": str(task.remote_id), "content_hash": task.content_hash, "created": now}
        written["shown"] = None if task.shown is None else shown_rows(task.shown)
        if (row := known.get(task.tile_id)) is None:
            new.append(written | {"project_id": project.id, "tile_id": task.tile_id, "state": PUSHED, "round_id": round_id})
            continue
        row.round_id = round_id if round_id is not None else row.round_id
        for name, value in written.items():
            setattr(row, name, value)
    session.flush()
    if new:
        session.execute(insert(RemoteTask), new)


def shown_rows(boxes: Boxes) -> list[list[float]]:
    """Boxes as they are kept with a task."""
    rows: list[list[float]] = np.column_stack([boxes.xyxy.round(3), boxes.labels]).tolist()
    return rows


def shown_boxes(task: RemoteTask) -> Boxes | None:
    """What the annotators of a task found on its tile; None where that is not known."""
    if task.shown is None:
        return None
    rows = np.asarray(task.shown, dtype=np.float64).reshape(-1, 5)
    return Boxes(rows[:, :4], rows[:, 4].astype(np.int64))


def count_tasks(session: Session, project: RemoteProject) -> int:
    """How many tasks of a project are written down."""
    return session.scalar(select(func.count()).select_from(RemoteTask).where(RemoteTask.project_id == project.id)) or 0


def find_task(session: Session, project: RemoteProject, *, remote_id: int) -> RemoteTask | None:
    """The task of that id on the server."""
    return session.scalar(select(RemoteTask).where(RemoteTask.project_id == project.id, RemoteTask.remote_id == str(remote_id)))


def cursor_of(project: RemoteProject) -> Cursor:
    """How far the answers of a project were taken in."""
    return Cursor(project.cursor_at, project.cursor_id)


def advance(project: RemoteProject, reached: Cursor) -> None:
    """Note that everything up to ``reached`` is taken in, in the transaction that took it in; never goes back."""
    if reached > cursor_of(project):
        project.cursor_at, project.cursor_id = reached.at, reached.id


def look_again(session: Session) -> None:
    """Let the next pulls, of whatever server, begin with the first answer."""
    for project in session.scalars(select(RemoteProject)):
        project.cursor_at, project.cursor_id = "", 0


def waiting(session: Session, *, state: str | None = None) -> int:
    """How many tasks, on whatever server, have no answer in the catalog yet: all of them, or those in ``state``."""
    query = select(func.count()).select_from(RemoteTask)
    return session.scalar(query.where(RemoteTask.state != ANNOTATED if state is None else RemoteTask.state == state)) or 0


@dataclass(frozen=True)
class HeldTask:
    """A task whose answer is held back: its tile, its number and project on the server, and why, in sentences."""

    tile: int
    task: int
    project: int
    reasons: tuple[str, ...]


def held(session: Session) -> list[HeldTask]:
    """The tasks whose newest answer is held back, by tile."""
    said = {(event.details["tile"], event.details["project"]): event.details for event in ledger.events(session, ANSWER)}
    query = select(RemoteTask, RemoteProject.remote_id).join(RemoteProject, RemoteProject.id == RemoteTask.project_id)
    found = []
    for row, project in session.execute(query.where(RemoteTask.state == HELD).order_by(RemoteTask.tile_id)):
        details = said.get((row.tile_id, project), {})
        reasons = (*details.get("conflicts", ()), *details.get("rejected", ()))
        found.append(HeldTask(row.tile_id, int(row.remote_id), int(project), reasons))
    return found


def note_answer(session: Session, task: RemoteTask, **said: Any) -> None:
    """Keep in the ledger what was not taken in as it was drawn."""
    project = session.get_one(RemoteProject, task.project_id).remote_id
    ledger.record(session, ANSWER, project=project, task=int(task.remote_id), tile=task.tile_id, **said)


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree who answered the same tiles: how many tiles, and the mean over them of the F1 of pairs, in [0, 1]."""

    tiles: int
    f1: float


def note_agreement(session: Session, task: RemoteTask, *, annotators: int, f1: float) -> None:
    """Keep in the ledger how far the annotators of a task agree; what is noted later stands in the place of it."""
    ledger.record(session, AGREEMENT, task=task.id, tile=task.tile_id, annotators=annotators, f1=f1)


def agreement(session: Session) -> Agreement | None:
    """The agreement over all tasks that several people answered; None where there is none."""
    newest = {event.details["task"]: event.details["f1"] for event in ledger.events(session, AGREEMENT)}
    return Agreement(len(newest), float(np.mean(list(newest.values())))) if newest else None


@dataclass(frozen=True)
class Policy:
    """What several people's answers to one tile are worth: the latest, a majority's boxes or all; from which IoU boxes are one object."""

    several: Literal["latest", "majority", "all"] = "latest"
    agree_iou: float = 0.5


def policy(session: Session) -> Policy:
    """The policy of the last pull."""
    noted = ledger.events(session, POLICY)
    return Policy(**noted[-1].details) if noted else Policy()


def note_policy(session: Session, chosen: Policy) -> None:
    """Keep a policy for the pulls to come, where it is another one."""
    if chosen != policy(session):
        ledger.record(session, POLICY, **asdict(chosen))
