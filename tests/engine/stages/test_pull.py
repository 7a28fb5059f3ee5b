"""Pull: page after page, as far as the server's clock says, and what the server has lost stays here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, event, select
from sqlalchemy.orm import Session

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.tasks import label_config
from engine.catalog import remote
from engine.catalog.rounds import get_round, round_tiles
from engine.catalog.schema import Annotation, RemoteProject, RemoteTask, Review, RoundTile
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Missing, NothingToDo, TilehawkError
from engine.label_set import LabelSet
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

TILES = 6


@pytest.fixture
def workspace(pushed: Workspace) -> Workspace:
    """Six train tiles that were pushed."""
    return pushed


def test_drawn_boxes_become_annotations_with_who_and_how_long(workspace, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "ship")], lead_time=12.5)
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.added, report.waiting, report.held) == (1, 2, TILES - 1, 0)
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 12, 15, 0], [20, 20, 28, 26, 1]]
    assert pulled.reviewed(workspace) == {1: "ada@example.com"}
    with workspace.session(write=False) as session:
        assert {(row.source, row.annotator) for row in session.scalars(select(Annotation).where(Annotation.source != "truth.json"))} == {
            ("label-studio", "ada@example.com")
        }
        assert round_tiles(session, get_round(session))[0].measured_seconds == 12.5


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


def test_pages_before_a_lost_line_are_taken_in_and_the_next_pull_goes_on(workspace, studio, server, people, draw, pulled):
    for task in range(1, TILES + 1):
        people.submit(task, [draw(2, 3, 10, 12)])
        studio.now += timedelta(minutes=10)
    with pytest.raises(TilehawkError, match="the line is gone"):
        pull(workspace, _LosingTheLine(server, pages=2), PullConfig(page=2))
    taken = len(pulled.reviewed(workspace))
    assert 2 <= taken < TILES, "two pages"
    assert pull(workspace, server, PullConfig(page=2)).tiles == TILES - taken


def test_a_change_of_policy_that_was_cut_off_is_finished_by_whatever_pull_comes_next(workspace, studio, server, people, draw, pulled):
    for task in range(1, TILES + 1):
        people.submit(task, [draw(2, 3, 10, 12)], completed_by=1)
        people.submit(task, [], completed_by=2)
        studio.now += timedelta(minutes=10)
    pull(workspace, server, PullConfig())
    assert pulled.boxes_of(workspace, TILES) == []
    with pytest.raises(TilehawkError, match="the line is gone"):
        pull(workspace, _LosingTheLine(server, pages=1), PullConfig(several="all", page=2))
    assert pulled.boxes_of(workspace, TILES) == []
    pull(workspace, server, PullConfig())
    assert [pulled.boxes_of(workspace, task) for task in range(1, TILES + 1)] == TILES * [[[2, 3, 12, 15, 0]]]


def test_a_project_that_may_not_be_seen_is_an_error_and_not_gone(workspace, server):
    class Forbidden(_LosingTheLine):
        def __init__(self) -> None:
            super().__init__(server, pages=0)
            self.project = self.refuse

        def refuse(self, _project_id: int) -> Any:
            raise BadInput("the token is refused")

    with pytest.raises(BadInput, match="the token is refused") as refusal:
        pull(workspace, Forbidden(), PullConfig())
    assert not isinstance(refusal.value, Missing)


def test_a_server_that_gives_less_than_is_asked_for_loses_nothing(workspace, studio, server, people, draw):
    studio.largest_page = 3
    for task in range(1, TILES + 1):
        people.submit(task, [])
    assert pull(workspace, server, PullConfig()).tiles == TILES


@pytest.mark.parametrize("order", [1, -1], ids=["by id", "the last id first"])
@pytest.mark.parametrize("page", [1, 2, 4, 500])
def test_an_action_on_many_tasks_at_once_leaves_them_of_one_time_and_none_is_lost(workspace, studio, server, people, draw, page, order):
    studio.largest_page = 4
    studio.tasks = dict(list(studio.tasks.items())[::order])
    people.submit(TILES, [])
    for task in range(1, TILES):
        people.submit(task, [draw(2, 3, 10, 12)])
        studio.tasks[task]["updated_at"] = studio.tasks[1]["updated_at"]
    assert pull(workspace, server, PullConfig(page=page)).tiles == TILES
    assert pull(workspace, server, PullConfig(page=page, full=True)).known == TILES


def test_tasks_that_all_change_while_they_are_asked_for_are_for_the_next_pull(workspace, studio, server, people):
    studio.largest_page = 4
    for task in range(1, TILES + 1):
        people.submit(task, [])
        studio.tasks[task]["updated_at"] = studio.tasks[1]["updated_at"]
    studio.now += timedelta(minutes=1)
    studio.busy = True
    with pytest.raises(TilehawkError, match="changed while they were asked for"):
        pull(workspace, server, PullConfig())
    studio.busy = False
    assert pull(workspace, server, PullConfig()).tiles == TILES


def test_tasks_of_others_are_left_alone_and_an_unrecorded_one_of_ours_is_not(workspace, studio, server, people, draw, pulled):
    people.add(1, [{"data": {"image": "theirs"}}])
    people.submit(TILES + 1, [draw(2, 3, 10, 12)])
    with workspace.session() as session:
        session.execute(delete(RemoteTask).where(RemoteTask.remote_id == "3"))
    people.submit(3, [draw(2, 3, 10, 12)])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.foreign) == (1, 1)
    assert len(pulled.boxes_of(workspace, 3)) == 1


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


def test_a_task_that_was_deleted_as_a_whole_leaves_its_answer_here(workspace, studio, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.delete_task(1)
    report = pull(workspace, server, PullConfig(full=True))
    assert (report.missing, report.withdrawn, report.known) == (1, 0, 0)
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert set(pulled.reviewed(workspace)) == {1}


def test_a_full_pull_finds_what_no_time_tells_of(workspace, studio, server, people, draw, pulled):
    answer = people.submit(1, [draw(2, 3, 10, 12)])
    studio.now += timedelta(hours=1)
    people.submit(2, [])
    pull(workspace, server, PullConfig())
    del studio.annotations[answer]
    assert pull(workspace, server, PullConfig()).withdrawn == 0
    assert pull(workspace, server, PullConfig(full=True)).withdrawn == 1
    assert pulled.boxes_of(workspace, 1) == []


@pytest.mark.guarantee("G41")
@pytest.mark.parametrize("hours", [-1, 13])
def test_the_servers_clock_alone_decides_however_wrong_it_is(workspace, studio, server, people, draw, hours, pulled):
    studio.now = datetime.now(UTC) + timedelta(hours=hours)
    first = people.submit(1, [draw(2, 3, 10, 12)])
    assert pull(workspace, server, PullConfig()).tiles == 1
    with workspace.session(write=False) as session:
        assert session.scalars(select(RemoteProject)).one().cursor_at == moment_of(studio, 1)
    people.edit(first, [])
    people.submit(2, [])
    assert pull(workspace, server, PullConfig()).tiles == 2
    assert pulled.boxes_of(workspace, 1) == []


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
