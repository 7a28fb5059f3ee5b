"""What pushing tiles to annotators and pulling their answers needs of an annotation server; a connector speaks to a real one.

Every request is small and bounded in time. A connector repeats a request that failed on the way only where that cannot do it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from engine.boxes import Boxes
from engine.label_set import LabelSet

__all__ = [
    "ACCEPTED",
    "MOST_BOXES",
    "MOST_TASKS_AT_ONCE",
    "AnnotationServer",
    "Answer",
    "AnswerPage",
    "Cursor",
    "DrawnBoxes",
    "KnownTask",
    "ServerProject",
    "Suggestion",
    "TaskAnswers",
    "TileTask",
]

ACCEPTED = "accepted"
"""Stands for a model where only boxes accepted earlier are shown."""
MOST_TASKS_AT_ONCE = 1000
"""Tasks in one request."""
MOST_BOXES = 2000
"""Boxes of one answer; a larger one is held back, not taken in."""


@dataclass(frozen=True)
class ServerProject:
    """A project as the server has it now: how many tasks, its label configuration in the server's own language, annotators asked a task."""

    id: int
    title: str
    tasks: int
    label_config: str
    annotators: int = 1


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Boxes that the annotator finds on the tile, in tile pixels; ``score`` in [0, 1] is None where no detector had a say."""

    boxes_tile: Boxes
    model: str
    score: float | None


@dataclass(frozen=True, eq=False)
class TileTask:
    """A tile as it goes to the server.

    ``key`` is our own name for it, by which it is found again; ``content_hash`` changes with the pixels, the suggestion and the classes;
    ``image`` is the address that the annotator's browser loads; ``x`` and ``y`` are the tile's corner in scene pixels.
    """

    key: str
    tile_id: int
    content_hash: str
    image: str
    width: int
    height: int
    scene: str
    x: int
    y: int
    reason: str
    suggestion: Suggestion | None


@dataclass(frozen=True)
class KnownTask:
    """A task as the server has it; ``key`` and ``content_hash`` are empty on tasks that are not ours."""

    id: int
    key: str
    content_hash: str
    answered: bool
    """somebody has worked on it, be it a draft or a skip"""


@dataclass(frozen=True, order=True)
class Cursor:
    """A place in the order of what changed on the server: its own time of the change (ISO 8601, empty for the beginning), then the task."""

    at: str = ""
    id: int = 0

    def back(self, seconds: float) -> Cursor:
        """The place ``seconds`` earlier by the server's clock: changes are not always seen in the order of their times."""
        if not self.at:
            return self
        return Cursor((datetime.fromisoformat(self.at) - timedelta(seconds=seconds)).isoformat(timespec="microseconds"))


@dataclass(frozen=True, eq=False)
class DrawnBoxes:
    """The boxes of an answer in tile pixels, and what could not be taken as it was drawn, in sentences.

    ``notes``: taken, but changed or with something beside it; ``rejected``: no box at all; ``conflicts``: of a class that is not ours.
    """

    boxes_tile: Boxes
    notes: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Answer:
    """What one annotator said of a task.

    ``id`` is the server's; ``at`` its time of the answer; ``digest`` changes with whatever is taken from it; ``seconds`` of work on it.
    ``read(width, height, label_set)`` gives its boxes on a tile of that size in pixels.
    """

    id: int
    kind: Literal["submitted", "skipped"]
    at: str
    digest: str
    annotator: str | None
    seconds: float | None
    read: Callable[[int, int, LabelSet], DrawnBoxes]


@dataclass(frozen=True, eq=False)
class TaskAnswers:
    """Everything that the annotators of a task have said and not taken back, the oldest answer first.

    ``position`` is the task's place in the order of changes.
    """

    task_id: int
    key: str
    position: Cursor
    answers: Sequence[Answer]


@dataclass(frozen=True, eq=False)
class AnswerPage:
    """Tasks by rising position; ``complete`` when nothing followed them."""

    tasks: Sequence[TaskAnswers]
    complete: bool


class AnnotationServer(Protocol):
    """A server where people annotate.

    Raises, from every method: TilehawkError when it cannot be reached or answers with a fault of its own; BadInput when it refuses our
    credentials, is another kind of server, or no longer has what is asked for.
    """

    @property
    def address(self) -> str:
        """Origin of the server's address."""

    def make_project(self, title: str, marker: str, label_set: LabelSet, *, annotators: int = 1) -> ServerProject:
        """Make a project for boxes of these classes, each task for so many annotators; ``marker`` is kept with it."""

    def find_project(self, marker: str) -> ServerProject | None:
        """The project that was made with ``marker``."""

    def project(self, project_id: int) -> ServerProject:
        """The project as it is now.

        Raises:
            Missing: it is gone.
        """

    def require_classes(self, project: ServerProject, label_set: LabelSet) -> None:
        """Refuse a project whose configuration would not bring back boxes of exactly these classes.

        Raises:
            LabelSetMismatch: naming the difference.
        """

    def serve_pictures(self, project_id: int, folder: str) -> None:
        """Let the annotators of a project load pictures from ``folder`` of the server's own disk; repeating it changes nothing.

        Raises:
            BadInput: the server does not serve that folder.
        """

    def pictures(self, project_id: int) -> Mapping[str, str]:
        """The addresses of pictures that were uploaded to the project from here, by the names that were given to them."""

    def upload_pictures(self, project_id: int, pictures: Mapping[str, bytes]) -> Mapping[str, str]:
        """Upload PNG pictures by their names, in one request that is not repeated; returns their addresses by name."""

    def tasks(self, project_id: int, *, after: int = 0) -> Iterator[KnownTask]:
        """The tasks with an id above ``after``, by id."""

    def add_tasks(self, project_id: int, tasks: Sequence[TileTask], label_set: LabelSet) -> list[int]:
        """Add at most :data:`MOST_TASKS_AT_ONCE` tasks; returns their ids in the same order. Never repeated by itself."""

    def replace_task(self, task_id: int, task: TileTask, label_set: LabelSet) -> None:
        """Make a task's data and our suggestion on it those of ``task``; whatever people made there stays. Repeating it changes nothing."""

    def delete_task(self, task_id: int) -> None:
        """Delete a task that nobody worked on; one that is gone already is no error."""

    def answers(self, project_id: int, after: Cursor, limit: int) -> AnswerPage:
        """About ``limit`` tasks that changed after the cursor, answered or not, the earliest change first, each with all its answers."""
