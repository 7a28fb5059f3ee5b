"""What an annotation server has, held against what the catalog knows of it: worked out first, changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.annotation_server import AnnotationServer, KnownTask, ServerProject
from engine.catalog import remote
from engine.catalog.schema import RemoteProject
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.label_set import LabelSet

__all__ = ["Difference", "bring_home", "doubles_of_a_late_import", "known_project", "look_over_there", "require_fitting"]


@dataclass(frozen=True)
class Difference:
    """What the catalog has to learn of a project on the server.

    ``gone``: tasks that somebody deleted over there; their tiles may be pushed anew. ``adopted``: by tile, the task of ours that is to be
    written down; ``found`` of them are of tiles that had none here. ``doubles``: second tasks of a tile, on which nobody worked.
    """

    gone: frozenset[int] = frozenset()
    adopted: Mapping[int, KnownTask] = field(default_factory=dict)
    found: int = 0
    doubles: Sequence[int] = ()


def look_over_there(workspace: Workspace, server: AnnotationServer, project: RemoteProject, there: ServerProject, key: str) -> Difference:
    """Learn what the server has that the catalog does not know, and what it no longer has; nothing is changed.

    Only tasks newer than the newest known one are looked at, unless the counts differ or a tile has two: then all of them.

    Args:
        workspace: whose catalog.
        server: asked for its tasks.
        project: as the catalog knows it.
        there: as the server has it.
        key: the workspace's own name.
    """
    with workspace.session(write=False) as session:
        known = {tile: int(row.remote_id) for tile, row in remote.tasks_of(session, project).items()}
    if not known and not there.tasks:
        return Difference()
    newest = max(known.values(), default=0)
    listed = list(server.tasks(there.id, after=newest))
    complete = len(known) + len(listed) != there.tasks or any(remote.tile_of_key(key, task.key) in known for task in listed)
    if complete and newest:
        listed = list(server.tasks(there.id))
    gone = set(known.values()) - {task.id for task in listed} if complete else set()
    wanted = {task.id: tile for task in listed if (tile := remote.tile_of_key(key, task.key)) is not None}
    with workspace.session(write=False) as session:
        ours = {tile.id for tile in tiles(session, ids=list(wanted.values()))}
    return _compared(known, gone, [(wanted[task.id], task) for task in listed if wanted.get(task.id) in ours])


def _compared(known: Mapping[int, int], gone: set[int], ours: Sequence[tuple[int, KnownTask]]) -> Difference:
    """Of two tasks for one tile the one that somebody worked on stays, else the first."""
    standing = {tile: number for tile, number in known.items() if number not in gone}
    by_id = {task.id: task for _, task in ours}
    recorded, found = set(known.values()), 0
    adopted: dict[int, KnownTask] = {}
    doubles: list[int] = []
    for tile, task in ours:
        if task.id in recorded:
            continue
        if tile not in standing:
            found += 1
        elif not task.answered:
            doubles.append(task.id)
            continue
        elif (other := by_id.get(standing[tile])) is not None and not other.answered:
            doubles.append(other.id)
        else:
            continue
        standing[tile], adopted[tile] = task.id, task
    return Difference(frozenset(gone), adopted, found, tuple(doubles))


def bring_home(workspace: Workspace, server: AnnotationServer, project: RemoteProject, there: ServerProject, key: str) -> Difference:
    """Write down what the server has that the catalog does not know, and remove the doubles; returns what was different."""
    difference = look_over_there(workspace, server, project, there, key)
    if difference.gone or difference.adopted:
        _write_down(workspace, project, difference)
    for task in difference.doubles:
        server.delete_task(task)
    return difference


def _write_down(workspace: Workspace, project: RemoteProject, difference: Difference) -> None:
    with workspace.session() as session:
        for row in remote.tasks_of(session, project).values():
            if int(row.remote_id) in difference.gone:
                session.delete(row)
        session.flush()
        adopted = [remote.PushedTask(tile, task.id, task.content_hash) for tile, task in difference.adopted.items()]
        remote.add_tasks(session, project, adopted)


def doubles_of_a_late_import(workspace: Workspace, server: AnnotationServer, project: RemoteProject, key: str) -> int:
    """Remove what the server only now finished of a request that an earlier push had given up; returns how many tasks."""
    there = server.project(int(project.remote_id))
    with workspace.session(write=False) as session:
        known = remote.count_tasks(session, project)
    return 0 if known == there.tasks else len(bring_home(workspace, server, project, there, key).doubles)


def known_project(
    workspace: Workspace, server: AnnotationServer, key: str, *, another: bool = False
) -> tuple[RemoteProject | None, ServerProject | None]:
    """The project that a workspace pushes to, here and there: the newest known, else one that was made and not written down, else none.

    Args:
        workspace: whose.
        server: where.
        key: the workspace's own name; empty where it has none, and so no project.
        another: than those that are known.

    Raises:
        BadInput: the known one is gone.
    """
    with workspace.session(write=False) as session:
        known = remote.projects(session, server.address)
    if known and not another:
        return known[-1], server.project(int(known[-1].remote_id))
    return None, server.find_project(remote.project_marker(key, len(known) + 1)) if key else None


def require_fitting(server: AnnotationServer, there: ServerProject, classes: LabelSet, annotators: int) -> None:
    """Refuse a project of other classes, or for fewer annotators.

    Raises:
        LabelSetMismatch: naming the difference.
        BadInput: it asks too few annotators.
    """
    server.require_classes(there, classes)
    if there.annotators < annotators:
        raise BadInput(
            f"project {there.id} on {server.address} asks {there.annotators} annotator(s) a task",
            expected=f"{annotators} at least, as `annotators` says",
            remedy="Raise it there (Settings, Quality, annotations per task), or push to a new project: --set new_project=true",
        )
