"""Pull: every answer is taken in once, the newest counts, and what cannot be taken is named and waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import delete, event, select, update
from sqlalchemy.orm import Session

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.tasks import label_config
from engine.catalog import remote
from engine.catalog.ledger import events
from engine.catalog.reviews import tile_state
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


def test_the_newest_of_two_annotators_counts_and_a_withdrawn_answer_stays(workspace, server, people, draw):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=2)
    newer = people.submit(1, [])
    assert pull(workspace, server, PullConfig()).empty == 1
    people.withdraw(newer)
    pull(workspace, server, PullConfig())
    assert boxes_of(workspace, 1) == []
    other = people.submit(2, [draw(2, 3, 10, 12)], completed_by=2)
    pull(workspace, server, PullConfig())
    people.withdraw(other)
    report = pull(workspace, server, PullConfig())
    assert report.withdrawn == 1
    assert len(boxes_of(workspace, 2)) == 1
    assert reviewed(workspace)[2] == "user 2"


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
