"""Pull: every answer is taken in once, the newest counts, and what cannot be taken is named and waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy import delete, event, select, update
from sqlalchemy.orm import Session

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.tasks import label_config
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.ledger import events
from engine.catalog.reviews import save_review, tile_state
from engine.catalog.rounds import ChosenTile, add_round, get_round, round_tiles
from engine.catalog.schema import Annotation, RemoteProject, RemoteTask, Review, RoundTile
from engine.catalog.tiles import tiles
from engine.catalog.visits import MeasuredVisit, measured_visits
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo, TilehawkError
from engine.label_set import LabelSet
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

Fake = Callable[[str], ModuleType]
TILES = 6


@pytest.fixture
def studio(fake: Fake) -> Iterator[Any]:
    with fake("label_studio_server").serving() as serving:
        yield serving


@pytest.fixture
def server(studio: Any, fake: Fake) -> LabelStudioServer:
    return LabelStudioServer(studio.url, fake("label_studio_server").TOKEN, pause=lambda _: None)


@pytest.fixture
def people(studio: Any, fake: Fake) -> Iterator[Any]:
    made = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    yield made
    made.close()


@pytest.fixture
def draw(fake: Fake) -> Callable[..., dict[str, Any]]:
    """A region of a tile of 32 px by 32 px, in pixels."""

    def region(x: float, y: float, width: float, height: float, label: str = "car", **value: Any) -> dict[str, Any]:
        return fake("annotators").rectangle(*(each / 0.32 for each in (x, y, width, height)), label, **value)

    return region


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake, server: LabelStudioServer) -> Iterator[Workspace]:
    """A round of six train tiles without known boxes, pushed: task n is of its n-th tile."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        with made.session() as session:
            session.execute(delete(Annotation).where(Annotation.state == "withheld"))
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")[:TILES]]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
        push(made, server, lambda tile: f"http://127.0.0.1:7860/{tile}", PushConfig())
        yield made


def tile_of(workspace: Workspace, task: int) -> int:
    with workspace.session(write=False) as session:
        return session.scalars(select(RemoteTask.tile_id).where(RemoteTask.remote_id == str(task))).one()


def boxes_of(workspace: Workspace, task: int) -> list[list[float]]:
    with workspace.session(write=False) as session:
        state = tile_state(session, tile_of(workspace, task))
        return [[*map(float, box.round(4)), int(label)] for box, label in zip(state.boxes_tile.xyxy, state.boxes_tile.labels, strict=True)]


def reviewed(workspace: Workspace) -> dict[int, str]:
    """By task, who reviewed its tile."""
    with workspace.session(write=False) as session:
        found = select(RemoteTask.remote_id, Review.by).join(Review, Review.tile_id == RemoteTask.tile_id)
        return {int(task): by for task, by in session.execute(found)}


def test_drawn_boxes_become_annotations_with_who_and_how_long(workspace, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "ship")], lead_time=12.5)
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.added, report.waiting, report.held) == (1, 2, TILES - 1, 0)
    assert boxes_of(workspace, 1) == [[2, 3, 12, 15, 0], [20, 20, 28, 26, 1]]
    assert reviewed(workspace) == {1: "ada@example.com"}
    with workspace.session(write=False) as session:
        assert {(row.source, row.annotator) for row in session.scalars(select(Annotation).where(Annotation.source != "truth.json"))} == {
            ("label-studio", "ada@example.com")
        }
        assert round_tiles(session, get_round(session))[0].measured_seconds == 12.5


def test_acts_and_times_are_kept_for_the_cost_model_an_edit_in_the_place_of_the_first(workspace, server, people, draw):
    first = people.submit(1, [draw(2, 3, 10, 12)], lead_time=12.5)
    people.submit(2, [], lead_time=3)
    people.submit(3, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.edit(first, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "ship")], lead_time=20)
    pull(workspace, server, PullConfig())
    with workspace.session(write=False) as session:
        visits = measured_visits(session)
    assert visits == [
        MeasuredVisit(tile_of(workspace, 1), "ada@example.com", "label-studio", 20, 0, 0, 2, 0),
        MeasuredVisit(tile_of(workspace, 2), "ada@example.com", "label-studio", 3, 0, 0, 0, 0),
    ]


def test_a_task_of_which_nobody_knows_what_it_showed_is_no_measured_visit(workspace, server, people, draw):
    with workspace.session() as session:
        session.execute(update(RemoteTask).values(shown=None))
    people.submit(1, [draw(2, 3, 10, 12)], lead_time=12.5)
    pull(workspace, server, PullConfig())
    with workspace.session(write=False) as session:
        assert measured_visits(session) == []


@pytest.mark.guarantee("G20")
def test_a_hundred_pulls_are_one_and_shuffled_or_lost_hints_change_nothing(workspace, server, people, draw):
    people.submit(2, [draw(2, 3, 10, 12)])
    people.submit(1, [])
    first = pull(workspace, server, PullConfig())
    assert (first.tiles, first.empty) == (2, 1)
    before = snapshot(workspace)
    for _ in range(5):
        again = pull(workspace, server, PullConfig(overlap_seconds=3600))
        assert (again.tiles, again.known) == (0, 2)
    assert snapshot(workspace) == before


def snapshot(workspace: Workspace) -> list[Any]:
    with workspace.session(write=False) as session:
        annotations = [(row.id, row.x1, row.label, row.version, row.state) for row in session.scalars(select(Annotation))]
        tasks = [(row.remote_id, row.state, row.applied_hash) for row in session.scalars(select(RemoteTask))]
        seconds = [(row.tile_id, row.measured_seconds) for row in session.scalars(select(RoundTile))]
        return [annotations, tasks, seconds, [(row.tile_id, row.by, row.seconds) for row in session.scalars(select(Review))]]


def test_submitted_empty_is_background_and_skipped_is_not(workspace, server, people):
    people.submit(1, [])
    people.skip(2)
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.empty, report.skipped) == (1, 1, 1)
    assert set(reviewed(workspace)) == {1}


def test_an_edit_replaces_what_was_taken_in_and_costs_its_time_in_all(workspace, server, people, draw):
    annotation = people.submit(1, [draw(2, 3, 10, 12), draw(20, 20, 8, 6)], lead_time=10)
    pull(workspace, server, PullConfig())
    people.edit(annotation, [draw(2, 3, 11, 12)], lead_time=14)
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.moved, report.removed) == (1, 1, 1)
    assert boxes_of(workspace, 1) == [[2, 3, 13, 15, 0]]
    with workspace.session(write=False) as session:
        assert round_tiles(session, get_round(session))[0].measured_seconds == 14


def test_of_two_annotators_the_newest_counts_and_when_that_is_deleted_the_other(workspace, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=2)
    newer = people.submit(1, [])
    assert pull(workspace, server, PullConfig()).empty == 1
    assert boxes_of(workspace, 1) == []
    people.withdraw(newer)
    assert pull(workspace, server, PullConfig()).tiles == 1
    assert boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert reviewed(workspace)[1] == "user 2"


@pytest.mark.guarantee("G23")
def test_a_class_that_is_not_ours_holds_the_answer_until_it_is_mended(workspace, server, people, draw):
    annotation = people.submit(1, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "truck")])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.held) == (0, 1)
    [held] = report.conflicts
    assert (held.tile, held.task) == (tile_of(workspace, 1), 1)
    assert held.reasons == ("region 2: the class 'truck' is not one of ['car', 'ship']; its box is [20.00, 20.00, 28.00, 26.00]",)
    assert boxes_of(workspace, 1) == []
    assert reviewed(workspace) == {}
    with workspace.session(write=False) as session:
        [remembered] = events(session, "answer")
    assert remembered.details["conflicts"] == list(held.reasons)
    assert pull(workspace, server, PullConfig()).held == 1
    people.edit(annotation, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "ship")])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.added, report.held) == (1, 2, 0)


@pytest.mark.guarantee("G24")
def test_a_box_that_is_none_leaves_the_tile_open_and_what_was_there_untouched(workspace, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.submit(1, [draw(2, 3, 10, 12), draw(5, 5, 0, 4)])
    people.submit(2, [draw(1, 1, 9, 9), draw(5, 5, -4, 4)])
    report = pull(workspace, server, PullConfig())
    assert [held.task for held in report.rejected] == [1, 2]
    assert report.held == 2
    assert boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert boxes_of(workspace, 2) == []
    assert set(reviewed(workspace)) == {1}


@pytest.mark.guarantee("G24")
def test_a_box_that_sticks_out_or_is_turned_is_taken_with_a_note(workspace, server, people, draw):
    people.submit(1, [draw(-4, 3, 10, 12), draw(20, 10, 8, 8, rotation=45)])
    report = pull(workspace, server, PullConfig())
    assert report.tiles == 1
    assert len(report.notes) == 2
    assert "sticks out" in report.notes[0]
    assert "taken as its envelope" in report.notes[1]
    boxes = boxes_of(workspace, 1)
    assert boxes[0] == [0, 3, 6, 15, 0]
    assert boxes[1][:4] == pytest.approx([20 - 8 / 2**0.5, 10, 20 + 8 / 2**0.5, 10 + 16 / 2**0.5], abs=0.01)
    assert set(reviewed(workspace)) == {1}


def test_the_cursor_is_the_servers_time_and_moves_with_what_is_taken_in(workspace, studio, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    with workspace.session(write=False) as session:
        project = session.scalars(select(RemoteProject)).one()
    assert project.cursor_at.startswith("2026-03-29T00:59:30")
    assert project.cursor_id == 1
    people.submit(2, [])

    def fail(_session: Session) -> None:
        raise RuntimeError("the disk is full")

    event.listen(Session, "before_commit", fail)
    try:
        with pytest.raises(RuntimeError):
            pull(workspace, server, PullConfig())
    finally:
        event.remove(Session, "before_commit", fail)
    with workspace.session(write=False) as session:
        assert session.scalars(select(RemoteProject)).one().cursor_at == project.cursor_at
    assert pull(workspace, server, PullConfig()).tiles == 1


def test_an_answer_that_became_visible_late_is_found_within_the_overlap(workspace, studio, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.submit(2, [])
    studio.tasks[2]["updated_at"] = studio.tasks[3]["updated_at"]
    assert pull(workspace, server, PullConfig(overlap_seconds=0)).tiles == 0
    assert pull(workspace, server, PullConfig(overlap_seconds=60)).tiles == 1


@pytest.mark.parametrize("page", [1, 2, 200])
def test_small_pages_and_equal_times_lose_nothing(workspace, studio, server, people, draw, page):
    for task in range(1, TILES + 1):
        people.submit(task, [draw(2, 3, 10, 12)])
    for task in (2, 3, 4):
        studio.tasks[task]["updated_at"] = studio.tasks[5]["updated_at"]
    report = pull(workspace, server, PullConfig(page=page))
    assert (report.tiles, report.waiting) == (TILES, 0)
    with workspace.session(write=False) as session:
        assert get_round(session).state == "annotated"


class _LosingTheLine:
    """A server that cannot be reached after so many pages of answers."""

    def __init__(self, server: LabelStudioServer, pages: int) -> None:
        self._server, self._pages = server, pages
        self.address, self.project = server.address, server.project

    def answers(self, *asked: Any) -> Any:
        if not self._pages:
            raise TilehawkError("the line is gone")
        self._pages -= 1
        return self._server.answers(*asked)


def test_pages_before_a_lost_line_are_taken_in_and_the_next_pull_goes_on(workspace, studio, server, people, draw):
    for task in range(1, TILES + 1):
        people.submit(task, [draw(2, 3, 10, 12)])
        studio.now += timedelta(minutes=10)
    with pytest.raises(TilehawkError, match="the line is gone"):
        pull(workspace, _LosingTheLine(server, pages=2), PullConfig(page=2))
    taken = len(reviewed(workspace))
    assert 2 <= taken < TILES, "two pages"
    assert pull(workspace, server, PullConfig(page=2)).tiles == TILES - taken


def test_a_server_that_gives_less_than_is_asked_for_loses_nothing(workspace, studio, server, people, draw):
    studio.largest_page = 3
    for task in range(1, TILES + 1):
        people.submit(task, [])
    assert pull(workspace, server, PullConfig()).tiles == TILES
    for task in range(1, 4):
        studio.tasks[task]["updated_at"] = studio.tasks[1]["updated_at"]
    with pytest.raises(TilehawkError, match="TASK_API_PAGE_SIZE_MAX"):
        pull(workspace, server, PullConfig())


def test_tasks_of_others_are_left_alone_and_an_unrecorded_one_of_ours_is_not(workspace, studio, server, people, draw):
    people.add(1, [{"data": {"image": "theirs"}}])
    people.submit(TILES + 1, [draw(2, 3, 10, 12)])
    with workspace.session() as session:
        session.execute(delete(RemoteTask).where(RemoteTask.remote_id == "3"))
    people.submit(3, [draw(2, 3, 10, 12)])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.foreign) == (1, 1)
    assert len(boxes_of(workspace, 3)) == 1


def test_answers_to_an_earlier_project_still_come(workspace, studio, server, people, draw):
    studio.projects[1]["label_config"] = label_config(LabelSet.of(["car"]))
    push(workspace, server, str, PushConfig(new_project=True))
    people.submit(1, [draw(2, 3, 10, 12)])
    people.submit(TILES + 2, [])
    assert pull(workspace, server, PullConfig()).tiles == 2
    people.delete_project(1)
    report = pull(workspace, server, PullConfig())
    assert report.gone == (f"project 1 (Tilehawk: {workspace.root.name})",)
    people.delete_project(2)
    with pytest.raises(BadInput, match="project 2 is gone"):
        pull(workspace, server, PullConfig())


def test_what_was_seen_through_a_neighbour_is_kept_whole(workspace, server, people, draw):
    with workspace.session() as session:
        [tile] = tiles(session, ids=[tile_of(workspace, 1)])
        x, y = tile.window.x, tile.window.y
        session.add(Annotation(scene_id=tile.scene_id, x1=x + 20, y1=y + 4, x2=x + 36, y2=y + 12, label=0, source="browser"))
    people.submit(1, [draw(20, 4, 12, 8)])
    report = pull(workspace, server, PullConfig())
    assert (report.unchanged, report.added) == (1, 0)
    with workspace.session(write=False) as session:
        assert session.scalars(select(Annotation.x2).where(Annotation.source == "browser")).one() == x + 36


def test_waiting_counts_what_has_no_answer(workspace, server, people):
    people.submit(1, [])
    pull(workspace, server, PullConfig())
    with workspace.session(write=False) as session:
        assert remote.waiting(session) == TILES - 1
        assert remote.waiting(session, state=remote.ANNOTATED) == 1


def test_nothing_pushed_and_nobody_there_say_what_to_do(workspace, tmp_path, server, fake):
    with Workspace.create(tmp_path / "empty") as empty, pytest.raises(NothingToDo, match="tilehawk push"):
        pull(empty, server, PullConfig())
    with pytest.raises(BadInput, match="refuses the token"):
        pull(workspace, LabelStudioServer(server.url, "f" * 40), PullConfig())


@pytest.mark.guarantee("G25")
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], {"latest": None, "majority": None, "all": None}),
        (["skip"], {"latest": None, "majority": None, "all": None}),
        (["skip", "skip"], {"latest": None, "majority": None, "all": None}),
        ([[]], {"latest": [], "majority": [], "all": []}),
        ([["a"]], {"latest": ["a"], "majority": ["a"], "all": ["a"]}),
        (["skip", ["a"]], {"latest": ["a"], "majority": ["a"], "all": ["a"]}),
        ([["a"], "skip"], {"latest": ["a"], "majority": ["a"], "all": ["a"]}),
        (["skip", []], {"latest": [], "majority": [], "all": []}),
        ([[], []], {"latest": [], "majority": [], "all": []}),
        ([["a"], []], {"latest": [], "majority": [], "all": ["a"]}),
        ([[], ["a"]], {"latest": ["a"], "majority": [], "all": ["a"]}),
        ([["a"], ["a"]], {"latest": ["a"], "majority": ["a"], "all": ["a"]}),
        ([["a"], ["b"]], {"latest": ["b"], "majority": [], "all": ["a", "b"]}),
        ([["a", "b"], ["a"], ["a"]], {"latest": ["a"], "majority": ["a"], "all": ["a", "b"]}),
        ([["a", "b"], ["b"], []], {"latest": [], "majority": ["b"], "all": ["a", "b"]}),
        ([["a"], ["A"], ["A"]], {"latest": ["A"], "majority": ["A"], "all": ["a", "A"]}),
    ],
)
@pytest.mark.parametrize("policy", ["latest", "majority", "all"])
def test_what_several_annotators_said_of_a_tile(workspace, server, people, draw, policy, said, expected):
    """``a`` and ``A`` are the same place of two classes; None: the tile is not reviewed."""
    places = {"a": (2, 3, 10, 12), "A": (2, 3, 10, 12, "ship"), "b": (18, 18, 9, 9)}
    for number, one in enumerate(said, start=1):
        who = {"completed_by": number}
        people.submit(1, [], was_cancelled=True, **who) if one == "skip" else people.submit(1, [draw(*places[each]) for each in one], **who)
    pull(workspace, server, PullConfig(several=policy))
    rows = {"a": [2, 3, 12, 15, 0], "A": [2, 3, 12, 15, 1], "b": [18, 18, 27, 27, 0]}
    assert sorted(boxes_of(workspace, 1)) == sorted(rows[each] for each in expected[policy] or [])
    assert (1 in reviewed(workspace)) == (expected[policy] is not None)


def test_the_boxes_of_a_majority_are_averaged_its_time_is_added_up_and_its_agreement_reported(workspace, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)], lead_time=10, completed_by=1)
    people.submit(1, [draw(3, 3, 10, 12), draw(20, 20, 8, 8)], lead_time=20, completed_by=2)
    people.submit(2, [], completed_by=1)
    report = pull(workspace, server, PullConfig(several="majority"))
    assert (report.tiles, report.several) == (2, 1)
    assert report.agreement == pytest.approx(2 / 3)
    assert boxes_of(workspace, 1) == [[2.5, 3, 12.5, 15, 0]]
    with workspace.session(write=False) as session:
        assert round_tiles(session, get_round(session))[0].measured_seconds == 30
        assert remote.agreement(session) == remote.Agreement(1, pytest.approx(2 / 3))
        assert measured_visits(session) == []
    assert reviewed(workspace)[1] == "ada@example.com, user 2"
    again = pull(workspace, server, PullConfig())
    assert (again.tiles, again.known, again.several, again.agreement) == (0, 2, 0, None)


def test_a_policy_holds_for_the_pulls_to_come_and_another_one_looks_at_every_task_again(workspace, studio, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=1)
    people.submit(1, [], completed_by=2)
    assert boxes_after(workspace, server, PullConfig()) == []
    studio.now += timedelta(hours=1)
    people.submit(2, [])
    assert boxes_after(workspace, server, PullConfig()) == []
    assert boxes_after(workspace, server, PullConfig(several="all")) == [[2, 3, 12, 15, 0]]
    assert boxes_after(workspace, server, PullConfig(full=True)) == [[2, 3, 12, 15, 0]]
    assert boxes_after(workspace, server, PullConfig(several="majority")) == []


def boxes_after(workspace: Workspace, server: LabelStudioServer, config: PullConfig) -> list[list[float]]:
    pull(workspace, server, config)
    return boxes_of(workspace, 1)


def test_the_newest_answer_of_each_annotator_is_theirs(workspace, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=1)
    people.submit(1, [], completed_by=1)
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=2)
    report = pull(workspace, server, PullConfig(several="majority"))
    assert (boxes_of(workspace, 1), report.agreement) == ([], 0)


@pytest.mark.guarantee("G22")
def test_an_answer_that_was_deleted_is_taken_back_with_what_it_changed(workspace, server, people, draw):
    with workspace.session() as session:
        [tile] = tiles(session, ids=[tile_of(workspace, 1)])
        for x in (2, 20):
            x1, y1 = tile.window.x + x, tile.window.y + 4
            session.add(Annotation(scene_id=tile.scene_id, x1=x1, y1=y1, x2=x1 + 8, y2=y1 + 8, label=0, source="browser"))
    before = boxes_of(workspace, 1)
    answer = people.submit(1, [draw(3, 4, 8, 8, "ship"), draw(2, 20, 9, 9)], lead_time=5)
    pull(workspace, server, PullConfig())
    assert boxes_of(workspace, 1) == [[3, 4, 11, 12, 1], [2, 20, 11, 29, 0]]
    people.withdraw(answer)
    report = pull(workspace, server, PullConfig())
    assert (report.withdrawn, report.tiles, report.waiting) == (1, 0, TILES)
    assert (boxes_of(workspace, 1), reviewed(workspace)) == (before, {})
    with workspace.session(write=False) as session:
        states = [(row.state, row.version) for row in session.scalars(select(Annotation).where(Annotation.source == "label-studio"))]
        assert states == [("deleted", 2)]
        [event] = events(session, "withdrawal")
        assert (event.details["removed"], event.details["restored"]) == (1, 2)
    assert pull(workspace, server, PullConfig(full=True)).withdrawn == 0
    assert push(workspace, server, str, PushConfig()).pushed == 0
    people.submit(1, [])
    assert pull(workspace, server, PullConfig()).empty == 1


@pytest.mark.guarantee("G22")
def test_a_round_whose_answer_was_taken_back_waits_again(workspace, server, people):
    answers = [people.submit(task, []) for task in range(1, TILES + 1)]
    pull(workspace, server, PullConfig())
    assert state_of_round(workspace) == "annotated"
    people.withdraw(answers[0])
    pull(workspace, server, PullConfig())
    assert state_of_round(workspace) == "ranked"
    people.submit(1, [])
    pull(workspace, server, PullConfig())
    assert state_of_round(workspace) == "annotated"


def state_of_round(workspace: Workspace) -> str:
    with workspace.session(write=False) as session:
        return get_round(session).state


@pytest.mark.guarantee("G22")
@pytest.mark.parametrize("full", [False, True])
def test_what_somebody_saved_here_afterwards_is_never_undone(workspace, server, people, draw, full):
    answer = people.submit(1, [draw(2, 3, 10, 12)])
    first = people.submit(2, [draw(2, 3, 10, 12)], completed_by=2)
    second = people.submit(2, [], completed_by=1)
    pull(workspace, server, PullConfig())
    for task in (1, 2):
        with workspace.session() as session:
            here = Boxes(np.array([[5.0, 5, 25, 25]]), np.array([1]))
            save_review(session, tile_of(workspace, task), here, source="browser", annotator="bo", seconds=1, complete=True)
    people.withdraw(answer)
    people.withdraw(second)
    report = pull(workspace, server, PullConfig(full=full))
    assert (report.withdrawn, report.kept, report.tiles) == (0, 2, 0)
    for task in (1, 2):
        assert boxes_of(workspace, task) == [[5, 5, 25, 25, 1]]
        assert reviewed(workspace)[task] == "bo"
    assert pull(workspace, server, PullConfig(full=True)).kept == 0
    people.edit(first, [draw(2, 3, 10, 12)], lead_time=2)
    assert pull(workspace, server, PullConfig()).tiles == 1
    assert boxes_of(workspace, 2) == [[2, 3, 12, 15, 0]]


@pytest.mark.guarantee("G22")
def test_taking_back_leaves_what_was_there_before_the_answer_even_a_review(workspace, server, people, draw):
    with workspace.session() as session:
        here = Boxes(np.array([[5.0, 5, 25, 25]]), np.array([1]))
        save_review(session, tile_of(workspace, 1), here, source="browser", annotator="bo", seconds=1, complete=True)
    answer = people.submit(1, [draw(2, 3, 10, 12)], lead_time=9)
    people.edit(answer, [draw(2, 3, 10, 13)], lead_time=10)
    pull(workspace, server, PullConfig())
    people.edit(answer, [draw(2, 3, 10, 14), draw(20, 20, 4, 4)], lead_time=11)
    pull(workspace, server, PullConfig())
    people.withdraw(answer)
    pull(workspace, server, PullConfig())
    assert boxes_of(workspace, 1) == [[5, 5, 25, 25, 1]]
    assert reviewed(workspace) == {1: "bo"}


@pytest.mark.guarantee("G22")
def test_an_object_on_two_tiles_goes_when_neither_answer_stands(tmp_path, fake, server, people, draw):
    with Workspace.create(tmp_path / "overlapping") as made:
        fake("labelled").fill(made, fake("catalog").add_scene, overlap=16)
        with made.session() as session:
            session.execute(delete(Annotation).where(Annotation.state == "withheld"))
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")[:2]]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
        push(made, server, str, PushConfig())
        first = people.submit(1, [draw(18, 4, 10, 10)])
        pull(made, server, PullConfig())
        assert boxes_of(made, 2) == [[2, 4, 12, 14, 0]]
        second = people.submit(2, [draw(2, 4, 10, 10)])
        assert pull(made, server, PullConfig()).unchanged == 1
        people.withdraw(first)
        pull(made, server, PullConfig())
        assert (boxes_of(made, 2), reviewed(made)) == ([[2, 4, 12, 14, 0]], {2: "ada@example.com"})
        people.withdraw(second)
        pull(made, server, PullConfig())
        assert (boxes_of(made, 1), boxes_of(made, 2), reviewed(made)) == ([], [], {})


def test_a_task_that_was_deleted_as_a_whole_leaves_its_answer_here(workspace, studio, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.delete_task(1)
    report = pull(workspace, server, PullConfig(full=True))
    assert (report.missing, report.withdrawn, report.known) == (1, 0, 0)
    assert boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert set(reviewed(workspace)) == {1}


def test_a_full_pull_finds_what_no_time_tells_of(workspace, studio, server, people, draw):
    answer = people.submit(1, [draw(2, 3, 10, 12)])
    studio.now += timedelta(hours=1)
    people.submit(2, [])
    pull(workspace, server, PullConfig())
    del studio.annotations[answer]
    assert pull(workspace, server, PullConfig()).withdrawn == 0
    assert pull(workspace, server, PullConfig(full=True)).withdrawn == 1
    assert boxes_of(workspace, 1) == []


def test_annotations_that_the_server_counts_and_does_not_give_are_no_deleted_ones(workspace, studio, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    studio.hides_annotations = True
    with pytest.raises(TilehawkError, match="task 1 has 1 annotations, and gives none of them"):
        pull(workspace, server, PullConfig(full=True))
    assert boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]


@pytest.mark.guarantee("G41")
@pytest.mark.parametrize("hours", [-1, 13])
def test_the_servers_clock_alone_decides_however_wrong_it_is(workspace, studio, server, people, draw, hours):
    studio.now = datetime.now(UTC) + timedelta(hours=hours)
    first = people.submit(1, [draw(2, 3, 10, 12)])
    assert pull(workspace, server, PullConfig()).tiles == 1
    with workspace.session(write=False) as session:
        assert session.scalars(select(RemoteProject)).one().cursor_at == moment_of(studio, 1)
    people.edit(first, [])
    people.submit(2, [])
    assert pull(workspace, server, PullConfig()).tiles == 2
    assert boxes_of(workspace, 1) == []


def moment_of(studio: Any, task: int) -> str:
    return datetime.fromisoformat(studio.tasks[task]["updated_at"]).astimezone(UTC).isoformat(timespec="microseconds")


@pytest.mark.guarantee("G41")
def test_another_zone_and_a_change_to_summer_time_lose_nothing_and_repeat_nothing(workspace, studio, server, people, draw):
    """01:59:59 +01:00 is followed by 03:00:00 +02:00: written as text, the later time may stand before the earlier one."""
    studio.now = datetime(2026, 3, 29, 0, 59, 58, tzinfo=UTC)
    studio.zone = ZoneInfo("Europe/Berlin")
    for task in range(1, TILES + 1):
        people.submit(task, [draw(2, 3, 10, 12)])
        studio.now += timedelta(seconds=1)
        assert pull(workspace, server, PullConfig(overlap_seconds=0)).tiles == 1
    assert studio.tasks[1]["updated_at"].endswith("+01:00")
    assert studio.tasks[TILES]["updated_at"].endswith("+02:00")
    assert pull(workspace, server, PullConfig(overlap_seconds=3600)).known == TILES
    studio.now = datetime(2026, 10, 25, 0, 59, 58, tzinfo=UTC)
    for task in range(1, TILES + 1):
        people.submit(task, [])
        studio.now += timedelta(seconds=1)
    assert pull(workspace, server, PullConfig(page=1)).empty == TILES


def test_of_two_tasks_for_a_tile_the_newer_answer_counts_and_stays(workspace, studio, server, people, draw):
    people.add(1, [{"data": studio.tasks[1]["data"]}])
    second = TILES + 1
    older = people.submit(1, [draw(2, 3, 10, 12)])
    newer = people.submit(second, [draw(18, 18, 9, 9)])
    pull(workspace, server, PullConfig())
    tile = studio.tasks[1]["data"]["tile_id"]
    for full in (False, True):
        assert pull(workspace, server, PullConfig(full=full)).known == 2
        assert boxes_of(workspace, second) == [[18, 18, 27, 27, 0]]
    people.withdraw(newer)
    assert pull(workspace, server, PullConfig(full=True)).withdrawn == 1
    assert pull(workspace, server, PullConfig(full=True)).tiles == 1
    assert boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert tile_of(workspace, 1) == tile
    people.edit(older, [])
    assert pull(workspace, server, PullConfig()).empty == 1
