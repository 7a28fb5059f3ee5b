"""Whatever annotators do over there in whatever order, and people here between: after a pull the catalog says what it should."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from connectors.label_studio.client import LabelStudioServer
from engine.boxes import Boxes
from engine.catalog.reviews import save_review, tile_state
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation, RemoteTask
from engine.catalog.workspace import Workspace
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

TASKS, PEOPLE, PIXELS = (1, 2, 3), (1, 2, 3), 32
CORNERS = {"a": (2, 2), "b": (18, 2), "c": (2, 18), "d": (18, 18)}
"""Four places on a tile where an object of 10 px may lie."""
Places = frozenset[str]
drawings = st.frozensets(st.sampled_from(sorted(CORNERS)))


@dataclass
class Tile:
    """What the catalog is to say of a task's tile: which objects, and whether it is reviewed.

    ``base``: that, as it was before the answers that stand; ``taken``: the answers that were taken in; ``newest``: the newest of them;
    ``saved_since``: somebody saved the tile here afterwards.
    """

    now: tuple[Places, bool] = (frozenset(), False)
    base: tuple[Places, bool] = (frozenset(), False)
    taken: list[tuple[int, Places]] | None = None
    newest: int = 0
    saved_since: bool = False

    def saved_here(self, places: Places) -> None:
        self.now = self.base = (places, True)
        self.saved_since = True

    def pulled(self, answers: list[tuple[int, Places]], places: Places, newest: int) -> None:
        """``answers`` are those that count, (annotation, what it shows); ``newest`` numbers the changes of answers."""
        if not answers:
            if self.taken is not None and not self.saved_since:
                self.now = self.base
            self.taken, self.newest = None, 0
        elif answers != self.taken:
            if newest > self.newest or not self.saved_since:
                if self.saved_since:
                    self.base = self.now
                self.now, self.saved_since = (places, True), False
            self.taken, self.newest = answers, newest


def together(policy: str, drawn: list[Places]) -> Places:
    """What annotators say together who draw at the very same places or not at all."""
    if policy == "latest":
        return drawn[-1]
    counts = {place: sum(place in one for one in drawn) for place in CORNERS}
    return frozenset(place for place, count in counts.items() if count > (len(drawn) / 2 if policy == "majority" else 0))


@dataclass
class Said:
    """An answer over there; ``changed`` numbers the changes."""

    task: int
    who: int
    places: Places
    skipped: bool
    changed: int
    history: list[str] = field(default_factory=list)


class History(RuleBasedStateMachine):
    """Annotators, people here and pulls, in any order, beside a model of what the catalog is to say."""

    template: Path
    studio: Any
    fakes: Any
    kept: dict[str, Any]
    answers = Bundle("answers")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        shutil.copytree(self.template, Path(self.folder.name) / "workspace")
        self.workspace = Workspace.open(Path(self.folder.name) / "workspace").__enter__()
        self.studio.annotations.clear()
        self.server = LabelStudioServer(self.studio.url, self.fakes("label_studio_server").TOKEN, pause=lambda _: None)
        self.people = self.fakes("annotators").Annotators(self.studio.url, self.fakes("label_studio_server").TOKEN)
        self.said: dict[int, Said] = {}
        self.tiles = {task: Tile() for task in TASKS}
        self.policy, self.changes = "latest", 0
        pull(self.workspace, self.server, PullConfig())

    def regions(self, places: Places) -> list[Any]:
        share = 100 / PIXELS
        return [
            self.fakes("annotators").rectangle(*(share * each for each in (*CORNERS[place], 10, 10)), side=PIXELS)
            for place in sorted(places)
        ]

    def number(self) -> int:
        self.changes += 1
        return self.changes

    @rule(target=answers, task=st.sampled_from(TASKS), who=st.sampled_from(PEOPLE), places=drawings, skipped=st.booleans())
    def answer(self, task: int, who: int, places: Places, *, skipped: bool) -> int:
        made = self.people.submit(task, [] if skipped else self.regions(places), completed_by=who, was_cancelled=skipped)
        self.said[made] = Said(task, who, places, skipped, self.number())
        return int(made)

    @rule(answer=answers, places=drawings, skipped=st.booleans())
    def edit(self, answer: int, places: Places, *, skipped: bool) -> None:
        self.people.edit(answer, self.regions(places), was_cancelled=skipped)
        said = self.said[answer]
        self.said[answer] = Said(said.task, said.who, places, skipped, self.number())

    @rule(answer=consumes(answers))
    def take_back(self, answer: int) -> None:
        self.people.withdraw(answer)
        del self.said[answer]

    @rule(task=st.sampled_from(TASKS), places=drawings)
    def save_here(self, task: int, places: Places) -> None:
        corners = np.array([CORNERS[place] for place in sorted(places)], dtype=float).reshape(-1, 2)
        boxes = Boxes(np.hstack([corners, corners + 10]), np.zeros(len(corners), dtype=int))
        with self.workspace.session() as session:
            save_review(session, self.tile_of(session, task), boxes, source="browser", annotator="bo", seconds=None, complete=True)
        self.tiles[task].saved_here(places)

    @rule(policy=st.sampled_from([None, "latest", "majority", "all"]), full=st.booleans())
    def pull(self, policy: str | None, *, full: bool) -> None:
        pull(self.workspace, self.server, PullConfig(several=policy, full=full, page=2))
        self.policy = policy or self.policy
        for task, tile in self.tiles.items():
            newest_of_each = {each.who: number for number, each in self.of_task(task) if not each.skipped}
            submitted = [(number, each) for number, each in self.of_task(task) if newest_of_each.get(each.who) == number]
            counted = submitted[-1:] if self.policy == "latest" else submitted
            answers = [(number, each.places) for number, each in counted]
            drawn = together(self.policy, [each.places for _, each in counted]) if counted else frozenset()
            tile.pulled(answers, drawn, max((each.changed for _, each in counted), default=0))
        self.look()

    @precondition(lambda self: self.changes == 0)
    @rule()
    def nothing_was_said(self) -> None:
        self.look()

    def of_task(self, task: int) -> Iterable[tuple[int, Said]]:
        return sorted(((number, each) for number, each in self.said.items() if each.task == task), key=lambda pair: pair[1].changed)

    def tile_of(self, session: Any, task: int) -> int:
        return int(session.scalars(select(RemoteTask.tile_id).where(RemoteTask.remote_id == str(task))).one())

    def look(self) -> None:
        with self.workspace.session(write=False) as session:
            for task, tile in self.tiles.items():
                state = tile_state(session, self.tile_of(session, task))
                there = {tuple(np.round(box[:2]).astype(int).tolist()) for box in state.boxes_tile.xyxy}
                assert ({place for place, corner in CORNERS.items() if corner in there}, state.reviewed) == tile.now
                assert len(state.boxes_tile) == len(there)

    def teardown(self) -> None:
        if hasattr(self, "workspace"):
            self.pull(None, full=True)
            self.workspace.__exit__(None, None, None)
            self.people.close()
            self.folder.cleanup()


@pytest.mark.guarantee("G22")
@pytest.mark.guarantee("G25")
def test_any_history_ends_with_the_catalog_saying_what_the_server_says(tmp_path, fake):
    with fake("label_studio_server").serving() as studio:
        with Workspace.create(tmp_path / "template") as made:
            fake("labelled").fill(made, fake("catalog").add_scene)
            with made.session() as session:
                session.execute(delete(Annotation).where(Annotation.state == "withheld"))
                chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")[: len(TASKS)]]
                add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
            server = LabelStudioServer(studio.url, fake("label_studio_server").TOKEN, pause=lambda _: None)
            push(made, server, str, PushConfig(annotators=len(PEOPLE)))
        machine = type("Histories", (History,), {"template": tmp_path / "template", "studio": studio, "fakes": staticmethod(fake)})
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
        run_state_machine_as_test(
            machine, settings=settings(max_examples=25, stateful_step_count=16, deadline=None, suppress_health_check=checks)
        )
