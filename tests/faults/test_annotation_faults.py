"""A push or pull that dies at any request or commit, and is run again: no task twice, no answer lost, none taken in twice."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import delete, select

from connectors.label_studio.client import LabelStudioServer
from engine.catalog import ledger
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation, PredictionSet, RemoteProject, RemoteTask, Review, RoundTile
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, TilehawkError
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

HERE = Path(__file__).parent
STATE = ("now", "projects", "tasks", "uploads", "predictions", "annotations", "numbers")
PUSH, PULL = {"chunk": 1}, {"page": 2}


class AnnotationProcess:
    """The process of ``annotation_child.py``."""

    def __init__(self, studio: Any, token: str) -> None:
        self._place = {"url": studio.url, "token": token}
        command = [sys.executable, HERE / "annotation_child.py"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._line() == "ready"

    def _line(self) -> str:
        line = self._process.stdout.readline().strip()
        assert line, "the child process died"
        return line

    def run(self, verb: str, workspace: Path, config: dict[str, Any], **death: int) -> int:
        """Run ``verb`` in a fork, which dies as told; returns its exit status."""
        task = {"verb": verb, "workspace": str(workspace), "config": config, **self._place, **death}
        self._process.stdin.write(json.dumps(task) + "\n")
        return int(self._line())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(120)


class World:
    """A workspace and a server, put back to where they were as often as is wanted."""

    def __init__(self, root: Path, studio: Any, process: AnnotationProcess) -> None:
        self.template, self.trial, self.studio, self.process = root / "template", root / "trial", studio, process
        self.kept: dict[str, Any] = {}

    def keep(self) -> None:
        self.kept = {name: copy.deepcopy(getattr(self.studio, name)) for name in STATE}

    def reset(self) -> None:
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.template, self.trial)
        for name, value in self.kept.items():
            setattr(self.studio, name, copy.deepcopy(value))
        self.studio.log.clear()

    def deaths(self, verb: str, config: dict[str, Any], check: Callable[[], None], *kinds: str) -> Counter[str]:
        """Let ``verb`` die at every place, look, run it again; ``check`` the end. Returns how many places of each kind there were."""
        places: Counter[str] = Counter()
        for kind in kinds:
            for count in itertools.count(1):
                self.reset()
                status = self.process.run(verb, self.trial, config, **{kind: count})
                self.look()
                if status == 0:
                    break
                assert status == signal.SIGKILL
                places[kind] += 1
                assert self.process.run(verb, self.trial, config) == 0
                check()
        return places

    def look(self) -> None:
        """At any moment: every task that the catalog names is there, and the cursor has passed nothing that is not taken in."""
        with Workspace.open(self.trial) as workspace, workspace.session(write=False) as session:
            rows = {int(row.remote_id): row for row in session.scalars(select(RemoteTask))}
            project = session.scalar(select(RemoteProject))
        assert set(rows) <= set(self.studio.tasks)
        if project is None or not project.cursor_at:
            return
        for number, task in self.studio.tasks.items():
            passed = datetime.fromisoformat(task["updated_at"]) <= datetime.fromisoformat(project.cursor_at)
            answered = any(not each["was_cancelled"] for each in self.studio.of_task("annotations", number))
            assert not (passed and answered) or rows[number].applied_hash is not None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, fake: Callable[[str], ModuleType]) -> Iterator[World]:
    """Round 1 of three train tiles, round 2 of the last of them and another, with other predictions."""
    studio_module = fake("label_studio_server")
    with studio_module.serving() as studio:
        process = AnnotationProcess(studio, studio_module.TOKEN)
        made = World(tmp_path_factory.mktemp("annotation-faults"), studio, process)
        with Workspace.create(made.template) as workspace:
            fake("labelled").fill(workspace, fake("catalog").add_scene)
            for name in ("old", "new"):
                fake("labelled").predict(workspace, name, model=name)
            train = [tile.id for tile in fake("labelled").records(workspace, "train")]
            with workspace.session() as session:
                sets = {row.name: row.id for row in session.scalars(select(PredictionSet))}
                for name, chosen in (("old", train[2:5]), ("new", train[4:6])):
                    tiles = [ChosenTile(tile, 1.0, 30.0, {"why": "by hand"}) for tile in chosen]
                    add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=tiles, prediction_set_id=sets[name])
                session.execute(delete(Annotation).where(Annotation.state == "withheld"))
        made.keep()
        yield made
        process.close()


def pushed(studio: Any) -> Counter[tuple[int, str]]:
    """The multiset of tiles on the server, each with the models of its predictions."""
    return Counter(
        (task["data"]["tile_id"], ",".join(sorted(each["model_version"] for each in studio.of_task("predictions", number))))
        for number, task in studio.tasks.items()
    )


def removed(studio: Any) -> list[str]:
    """Tasks that were deleted: a double must not come to be, not even for a moment."""
    return [path for method, path in studio.log if method == "DELETE" and path.startswith("/api/tasks/")]


def recorded(root: Path) -> dict[int, int]:
    with Workspace.open(root) as workspace, workspace.session(write=False) as session:
        return {int(row.remote_id): row.tile_id for row in session.scalars(select(RemoteTask))}


def answers_taken(root: Path) -> list[Any]:
    """Everything that a pull changes, without row numbers."""
    with Workspace.open(root) as workspace, workspace.session(write=False) as session:
        boxes = Counter(
            (row.scene_id, row.x1, row.y1, row.x2, row.y2, row.label, row.version, row.state) for row in session.scalars(select(Annotation))
        )
        tasks = {(row.tile_id, row.state, row.applied_hash) for row in session.scalars(select(RemoteTask))}
        reviews = Counter((row.tile_id, row.by, row.seconds) for row in session.scalars(select(Review)))
        seconds = {(row.round_id, row.tile_id, row.measured_seconds) for row in session.scalars(select(RoundTile))}
        return [boxes, tasks, reviews, seconds]


@pytest.mark.guarantee("G6")
def test_a_push_that_dies_anywhere_ends_as_one_that_did_not(world: World) -> None:
    world.reset()
    assert world.process.run("push", world.trial, {**PUSH, "round": 1}) == 0
    expected = pushed(world.studio)
    assert len(expected) == 3
    assert set(expected.values()) == {1}

    def check() -> None:
        assert pushed(world.studio) == expected
        assert len(world.studio.projects) == 1
        assert removed(world.studio) == []
        assert recorded(world.trial) == {number: task["data"]["tile_id"] for number, task in world.studio.tasks.items()}

    places = world.deaths("push", {**PUSH, "round": 1}, check, "before", "after")
    assert places["before"] == places["after"] >= 6


@pytest.mark.guarantee("G6")
def test_a_push_of_pictures_that_dies_anywhere_leaves_one_task_and_one_picture_a_tile(
    world: World, fake: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    world.reset()
    painted = World(tmp_path, world.studio, world.process)
    with Workspace.create(painted.template) as workspace:
        fake("labelled").fill(workspace, fake("catalog").add_scene, train=1)
        fake("labelled").paint(workspace, tmp_path / "scene.png")
        train = [tile.id for tile in fake("labelled").records(workspace, "train")][:3]
        with workspace.session() as session:
            tiles = [ChosenTile(tile, 1.0, 30.0, {"why": "by hand"}) for tile in train]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=tiles)
    painted.keep()

    def check() -> None:
        assert sorted(task["data"]["tile_id"] for task in world.studio.tasks.values()) == train
        uploaded = [f"/data/{each['file']}" for each in world.studio.uploads.values()]
        assert sorted(uploaded) == sorted(task["data"]["image"] for task in world.studio.tasks.values())
        assert removed(world.studio) == []

    places = painted.deaths("push", {**PUSH, "images": "upload"}, check, "before", "after")
    assert places["before"] == places["after"] >= 10


@pytest.mark.guarantee("G6")
def test_a_push_that_changes_tasks_dies_anywhere_and_ends_as_one_that_did_not(world: World) -> None:
    first = world.kept
    world.reset()
    assert world.process.run("push", world.trial, {**PUSH, "round": 1}) == 0
    restored = world.template.with_name("before")
    world.template.rename(restored)
    try:
        shutil.copytree(world.trial, world.template)
        world.keep()
        assert world.process.run("push", world.trial, PUSH) == 0
        expected = pushed(world.studio)
        assert len(expected) == 4

        def check() -> None:
            assert pushed(world.studio) == expected
            assert removed(world.studio) == []
            assert recorded(world.trial) == {number: task["data"]["tile_id"] for number, task in world.studio.tasks.items()}

        places = world.deaths("push", PUSH, check, "before", "after")
        assert places["before"] == places["after"] >= 8
    finally:
        shutil.rmtree(world.template)
        restored.rename(world.template)
        world.kept = first


@pytest.mark.guarantee("G6")
def test_a_pull_that_dies_anywhere_ends_as_one_that_did_not(world: World, fake: Callable[[str], ModuleType]) -> None:
    first = world.kept
    world.reset()
    assert world.process.run("push", world.trial, {**PUSH, "round": 1}) == 0
    people = fake("annotators").Annotators(world.studio.url, fake("label_studio_server").TOKEN)
    rectangle = fake("annotators").rectangle
    people.submit(3, [rectangle(10, 10, 30, 30), rectangle(60, 60, 20, 20, "ship")], lead_time=4)
    people.submit(1, [], lead_time=2)
    people.edit(people.submit(2, [rectangle(5, 5, 40, 40)], lead_time=3), [rectangle(5, 5, 50, 40)], lead_time=7)
    people.skip(2)
    people.close()
    restored = world.template.with_name("before")
    world.template.rename(restored)
    try:
        shutil.copytree(world.trial, world.template)
        world.keep()
        assert world.process.run("pull", world.trial, PULL) == 0
        expected = answers_taken(world.trial)
        assert sum(by == "ada@example.com" for _, by, _ in expected[2]) == 3

        def check() -> None:
            assert answers_taken(world.trial) == expected

        places = world.deaths("pull", PULL, check, "before", "after", "at_commit")
        assert places["before"] == places["after"] >= 4
        assert places["at_commit"] >= 3
    finally:
        shutil.rmtree(world.template)
        restored.rename(world.template)
        world.kept = first


MOST_TRIES = 40


def until_done(studio: Any, act: Callable[[], Any]) -> None:
    """Run ``act`` again and again, as a person or the worker would, until nothing is in its way; somebody else asks things between."""
    for times in range(MOST_TRIES):
        try:
            act()
        except BadInput:
            raise
        except TilehawkError:
            studio.log += [("GET", "/of/somebody/else")] * (times % 3)
        else:
            return
    raise AssertionError("it never came to an end")


@pytest.fixture
def people(world: World, fake: Callable[[str], ModuleType]) -> Iterator[Any]:
    made = fake("annotators").Annotators(world.studio.url, fake("label_studio_server").TOKEN)
    yield made
    world.studio.every = None
    made.close()


@pytest.mark.guarantee("G19")
@pytest.mark.parametrize(
    ("fault", "every"),
    [
        ("reset", 3),
        ("reset", 5),
        ("502", 3),
        ("502", 4),
        ("late", 2),
        ("late", 3),
        ("cut", 2),
        ("cut", 3),
        ("torn", 2),
        ("torn", 3),
        ("slow", 4),
    ],
)
def test_a_server_that_fails_at_every_kth_request_gets_each_task_once_and_loses_no_answer(world, people, fake, fault, every):
    """What is not done and never sent twice would never be done at every second request."""
    found = []
    for trouble in (None, (every, fault)):
        world.reset()
        server = LabelStudioServer(world.studio.url, people.token, pause=lambda _: None, answer_seconds=2.0 if fault == "slow" else 60.0)
        with Workspace.open(world.trial) as workspace:
            with workspace.session() as session:
                ledger.record(session, "identity", workspace="f" * 16)
            world.studio.every = trouble
            until_done(world.studio, partial(push, workspace, server, str, PushConfig(chunk=1, round=1)))
            world.studio.every = None
            for task in sorted(world.studio.tasks):
                tile = world.studio.tasks[task]["data"]["tile_id"]
                people.submit(task, [fake("annotators").rectangle(10 + tile, 10, 30, 30)], lead_time=tile)
            world.studio.every = trouble
            until_done(world.studio, partial(pull, workspace, server, PullConfig(page=1)))
            world.studio.every = None
        found.append((pushed(world.studio), len(world.studio.projects), without_digests(answers_taken(world.trial))))
    clean, troubled = found
    assert troubled == clean
    assert set(clean[0].values()) == {1}


def without_digests(taken: list[Any]) -> list[Any]:
    """The digests name the server's numbers, of which a lost answer uses one up."""
    boxes, tasks, reviews, seconds = taken
    return [boxes, {(tile, state, digest is not None) for tile, state, digest in tasks}, reviews, seconds]
