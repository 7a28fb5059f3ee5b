"""Answers: the newest of each person counts, what cannot be taken is named and waits, what is deleted there is taken back."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.ledger import events
from engine.catalog.reviews import save_review
from engine.catalog.rounds import ChosenTile, add_round, get_round, round_tiles
from engine.catalog.schema import Annotation, RemoteTask
from engine.catalog.tiles import tiles
from engine.catalog.visits import MeasuredVisit, measured_visits
from engine.catalog.workspace import Workspace
from engine.errors import TilehawkError
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

TILES = 6


@pytest.fixture
def workspace(pushed: Workspace) -> Workspace:
    """Six train tiles that were pushed."""
    return pushed


def test_acts_and_times_are_kept_for_the_cost_model_an_edit_in_the_place_of_the_first(workspace, server, people, draw, pulled):
    first = people.submit(1, [draw(2, 3, 10, 12)], lead_time=12.5)
    people.submit(2, [], lead_time=3)
    people.submit(3, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.edit(first, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "ship")], lead_time=20)
    pull(workspace, server, PullConfig())
    with workspace.session(write=False) as session:
        visits = measured_visits(session)
    assert visits == [
        MeasuredVisit(pulled.tile_of(workspace, 1), "ada@example.com", "label-studio", 20, 0, 0, 2, 0),
        MeasuredVisit(pulled.tile_of(workspace, 2), "ada@example.com", "label-studio", 3, 0, 0, 0, 0),
    ]


def test_a_task_of_which_nobody_knows_what_it_showed_is_no_measured_visit(workspace, server, people, draw):
    with workspace.session() as session:
        session.execute(update(RemoteTask).values(shown=None))
    people.submit(1, [draw(2, 3, 10, 12)], lead_time=12.5)
    pull(workspace, server, PullConfig())
    with workspace.session(write=False) as session:
        assert measured_visits(session) == []


def test_submitted_empty_is_background_and_skipped_is_not(workspace, server, people, pulled):
    people.submit(1, [])
    people.skip(2)
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.empty, report.skipped) == (1, 1, 1)
    assert set(pulled.reviewed(workspace)) == {1}


def test_an_edit_replaces_what_was_taken_in_and_costs_its_time_in_all(workspace, server, people, draw, pulled):
    annotation = people.submit(1, [draw(2, 3, 10, 12), draw(20, 20, 8, 6)], lead_time=10)
    pull(workspace, server, PullConfig())
    people.edit(annotation, [draw(2, 3, 11, 12)], lead_time=14)
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.moved, report.removed) == (1, 1, 1)
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 13, 15, 0]]
    with workspace.session(write=False) as session:
        assert round_tiles(session, get_round(session))[0].measured_seconds == 14


def test_of_two_annotators_the_newest_counts_and_when_that_is_deleted_the_other(workspace, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=2)
    newer = people.submit(1, [])
    assert pull(workspace, server, PullConfig()).empty == 1
    assert pulled.boxes_of(workspace, 1) == []
    people.withdraw(newer)
    assert pull(workspace, server, PullConfig()).tiles == 1
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert pulled.reviewed(workspace)[1] == "user 2"


@pytest.mark.guarantee("G23")
def test_a_class_that_is_not_ours_holds_the_answer_until_it_is_mended(workspace, server, people, draw, pulled):
    annotation = people.submit(1, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "truck")])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.held) == (0, 1)
    [held] = report.conflicts
    assert (held.tile, held.task) == (pulled.tile_of(workspace, 1), 1)
    assert held.reasons == ("region 2: the class 'truck' is not one of ['car', 'ship']; its box is [20.00, 20.00, 28.00, 26.00]",)
    assert pulled.boxes_of(workspace, 1) == []
    assert pulled.reviewed(workspace) == {}
    with workspace.session(write=False) as session:
        [remembered] = events(session, "answer")
    assert remembered.details["conflicts"] == list(held.reasons)
    assert pull(workspace, server, PullConfig()).held == 1
    people.edit(annotation, [draw(2, 3, 10, 12), draw(20, 20, 8, 6, "ship")])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.added, report.held) == (1, 2, 0)


@pytest.mark.guarantee("G24")
def test_a_box_that_is_none_leaves_the_tile_open_and_what_was_there_untouched(workspace, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    people.submit(1, [draw(2, 3, 10, 12), draw(5, 5, 0, 4)])
    people.submit(2, [draw(1, 1, 9, 9), draw(5, 5, -4, 4)])
    report = pull(workspace, server, PullConfig())
    assert [held.task for held in report.rejected] == [1, 2]
    assert report.held == 2
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert pulled.boxes_of(workspace, 2) == []
    assert set(pulled.reviewed(workspace)) == {1}


@pytest.mark.guarantee("G24")
def test_a_box_that_sticks_out_or_is_turned_is_taken_with_a_note(workspace, server, people, draw, pulled):
    people.submit(1, [draw(-4, 3, 10, 12), draw(20, 10, 8, 8, rotation=45)])
    report = pull(workspace, server, PullConfig())
    assert report.tiles == 1
    assert len(report.notes) == 2
    assert "sticks out" in report.notes[0]
    assert "taken as its envelope" in report.notes[1]
    boxes = pulled.boxes_of(workspace, 1)
    assert boxes[0] == [0, 3, 6, 15, 0]
    assert boxes[1][:4] == pytest.approx([20 - 8 / 2**0.5, 10, 20 + 8 / 2**0.5, 10 + 16 / 2**0.5], abs=0.01)
    assert set(pulled.reviewed(workspace)) == {1}


def test_what_was_seen_through_a_neighbour_is_kept_whole(workspace, server, people, draw, pulled):
    with workspace.session() as session:
        [tile] = tiles(session, ids=[pulled.tile_of(workspace, 1)])
        x, y = tile.window.x, tile.window.y
        session.add(Annotation(scene_id=tile.scene_id, x1=x + 20, y1=y + 4, x2=x + 36, y2=y + 12, label=0, source="browser"))
    people.submit(1, [draw(20, 4, 12, 8)])
    report = pull(workspace, server, PullConfig())
    assert (report.unchanged, report.added) == (1, 0)
    with workspace.session(write=False) as session:
        assert session.scalars(select(Annotation.x2).where(Annotation.source == "browser")).one() == x + 36


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
def test_what_several_annotators_said_of_a_tile(workspace, server, people, draw, pulled, *, policy, said, expected):
    """``a`` and ``A`` are the same place of two classes; None: the tile is not reviewed."""
    places = {"a": (2, 3, 10, 12), "A": (2, 3, 10, 12, "ship"), "b": (18, 18, 9, 9)}
    for number, one in enumerate(said, start=1):
        who = {"completed_by": number}
        people.submit(1, [], was_cancelled=True, **who) if one == "skip" else people.submit(1, [draw(*places[each]) for each in one], **who)
    pull(workspace, server, PullConfig(several=policy))
    rows = {"a": [2, 3, 12, 15, 0], "A": [2, 3, 12, 15, 1], "b": [18, 18, 27, 27, 0]}
    assert sorted(pulled.boxes_of(workspace, 1)) == sorted(rows[each] for each in expected[policy] or [])
    assert (1 in pulled.reviewed(workspace)) == (expected[policy] is not None)


def test_the_boxes_of_a_majority_are_averaged_its_time_is_added_up_and_its_agreement_reported(workspace, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)], lead_time=10, completed_by=1)
    people.submit(1, [draw(3, 3, 10, 12), draw(20, 20, 8, 8)], lead_time=20, completed_by=2)
    people.submit(2, [], completed_by=1)
    report = pull(workspace, server, PullConfig(several="majority"))
    assert (report.tiles, report.several) == (2, 1)
    assert report.agreement == pytest.approx(2 / 3)
    assert pulled.boxes_of(workspace, 1) == [[2.5, 3, 12.5, 15, 0]]
    with workspace.session(write=False) as session:
        assert round_tiles(session, get_round(session))[0].measured_seconds == 30
        assert remote.agreement(session) == remote.Agreement(1, pytest.approx(2 / 3))
        assert measured_visits(session) == []
    assert pulled.reviewed(workspace)[1] == "ada@example.com, user 2"
    again = pull(workspace, server, PullConfig())
    assert (again.tiles, again.known, again.several, again.agreement) == (0, 2, 0, None)


def test_a_policy_holds_for_the_pulls_to_come_and_another_one_looks_at_every_task_again(workspace, studio, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=1)
    people.submit(1, [], completed_by=2)
    assert pulled.boxes_after(workspace, server, PullConfig()) == []
    studio.now += timedelta(hours=1)
    people.submit(2, [])
    assert pulled.boxes_after(workspace, server, PullConfig()) == []
    assert pulled.boxes_after(workspace, server, PullConfig(several="all")) == [[2, 3, 12, 15, 0]]
    assert pulled.boxes_after(workspace, server, PullConfig(full=True)) == [[2, 3, 12, 15, 0]]
    assert pulled.boxes_after(workspace, server, PullConfig(several="majority")) == []


def test_the_newest_answer_of_each_annotator_is_theirs(workspace, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=1)
    people.submit(1, [], completed_by=1)
    people.submit(1, [draw(2, 3, 10, 12)], completed_by=2)
    report = pull(workspace, server, PullConfig(several="majority"))
    assert (pulled.boxes_of(workspace, 1), report.agreement) == ([], 0)


@pytest.mark.guarantee("G22")
def test_an_answer_that_was_deleted_is_taken_back_with_what_it_changed(workspace, server, people, draw, pulled):
    with workspace.session() as session:
        [tile] = tiles(session, ids=[pulled.tile_of(workspace, 1)])
        for x in (2, 20):
            x1, y1 = tile.window.x + x, tile.window.y + 4
            session.add(Annotation(scene_id=tile.scene_id, x1=x1, y1=y1, x2=x1 + 8, y2=y1 + 8, label=0, source="browser"))
    before = pulled.boxes_of(workspace, 1)
    answer = people.submit(1, [draw(3, 4, 8, 8, "ship"), draw(2, 20, 9, 9)], lead_time=5)
    pull(workspace, server, PullConfig())
    assert pulled.boxes_of(workspace, 1) == [[3, 4, 11, 12, 1], [2, 20, 11, 29, 0]]
    people.withdraw(answer)
    report = pull(workspace, server, PullConfig())
    assert (report.withdrawn, report.tiles, report.waiting) == (1, 0, TILES)
    assert (pulled.boxes_of(workspace, 1), pulled.reviewed(workspace)) == (before, {})
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
def test_a_round_whose_answer_was_taken_back_waits_again(workspace, server, people, pulled):
    answers = [people.submit(task, []) for task in range(1, TILES + 1)]
    pull(workspace, server, PullConfig())
    assert pulled.state_of_round(workspace) == "annotated"
    people.withdraw(answers[0])
    pull(workspace, server, PullConfig())
    assert pulled.state_of_round(workspace) == "ranked"
    people.submit(1, [])
    pull(workspace, server, PullConfig())
    assert pulled.state_of_round(workspace) == "annotated"


@pytest.mark.guarantee("G22")
@pytest.mark.parametrize("full", [False, True])
def test_what_somebody_saved_here_afterwards_is_never_undone(workspace, server, people, draw, full, pulled):
    answer = people.submit(1, [draw(2, 3, 10, 12)])
    first = people.submit(2, [draw(2, 3, 10, 12)], completed_by=2)
    second = people.submit(2, [], completed_by=1)
    pull(workspace, server, PullConfig())
    for task in (1, 2):
        with workspace.session() as session:
            here = Boxes(np.array([[5.0, 5, 25, 25]]), np.array([1]))
            save_review(session, pulled.tile_of(workspace, task), here, source="browser", annotator="bo", seconds=1, complete=True)
    people.withdraw(answer)
    people.withdraw(second)
    report = pull(workspace, server, PullConfig(full=full))
    assert (report.withdrawn, report.kept, report.tiles) == (0, 2, 0)
    for task in (1, 2):
        assert pulled.boxes_of(workspace, task) == [[5, 5, 25, 25, 1]]
        assert pulled.reviewed(workspace)[task] == "bo"
    assert pull(workspace, server, PullConfig(full=True)).kept == 0
    people.edit(first, [draw(2, 3, 10, 12)], lead_time=2)
    assert pull(workspace, server, PullConfig()).tiles == 1
    assert pulled.boxes_of(workspace, 2) == [[2, 3, 12, 15, 0]]


@pytest.mark.guarantee("G22")
def test_taking_back_leaves_what_was_there_before_the_answer_even_a_review(workspace, server, people, draw, pulled):
    with workspace.session() as session:
        here = Boxes(np.array([[5.0, 5, 25, 25]]), np.array([1]))
        save_review(session, pulled.tile_of(workspace, 1), here, source="browser", annotator="bo", seconds=1, complete=True)
    answer = people.submit(1, [draw(2, 3, 10, 12)], lead_time=9)
    people.edit(answer, [draw(2, 3, 10, 13)], lead_time=10)
    pull(workspace, server, PullConfig())
    people.edit(answer, [draw(2, 3, 10, 14), draw(20, 20, 4, 4)], lead_time=11)
    pull(workspace, server, PullConfig())
    people.withdraw(answer)
    pull(workspace, server, PullConfig())
    assert pulled.boxes_of(workspace, 1) == [[5, 5, 25, 25, 1]]
    assert pulled.reviewed(workspace) == {1: "bo"}


@pytest.mark.guarantee("G22")
def test_an_object_on_two_tiles_goes_when_neither_answer_stands(tmp_path, fake, server, people, draw, pulled):
    with Workspace.create(tmp_path / "overlapping") as made:
        fake("labelled").fill(made, fake("catalog").add_scene, overlap=16)
        with made.session() as session:
            session.execute(delete(Annotation).where(Annotation.state == "withheld"))
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")[:2]]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
        push(made, server, str, PushConfig())
        first = people.submit(1, [draw(18, 4, 10, 10)])
        pull(made, server, PullConfig())
        assert pulled.boxes_of(made, 2) == [[2, 4, 12, 14, 0]]
        second = people.submit(2, [draw(2, 4, 10, 10)])
        assert pull(made, server, PullConfig()).unchanged == 1
        people.withdraw(first)
        pull(made, server, PullConfig())
        assert (pulled.boxes_of(made, 2), pulled.reviewed(made)) == ([[2, 4, 12, 14, 0]], {2: "ada@example.com"})
        people.withdraw(second)
        pull(made, server, PullConfig())
        assert (pulled.boxes_of(made, 1), pulled.boxes_of(made, 2), pulled.reviewed(made)) == ([], [], {})


def test_annotations_that_the_server_counts_and_does_not_give_are_no_deleted_ones(workspace, studio, server, people, draw, pulled):
    people.submit(1, [draw(2, 3, 10, 12)])
    pull(workspace, server, PullConfig())
    studio.hides_annotations = True
    with pytest.raises(TilehawkError, match="task 1 has 1 annotations, and gives none of them"):
        pull(workspace, server, PullConfig(full=True))
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]


def test_of_two_tasks_for_a_tile_the_newer_answer_counts_and_stays(workspace, studio, server, people, draw, pulled):
    people.add(1, [{"data": studio.tasks[1]["data"]}])
    second = TILES + 1
    older = people.submit(1, [draw(2, 3, 10, 12)])
    newer = people.submit(second, [draw(18, 18, 9, 9)])
    pull(workspace, server, PullConfig())
    tile = studio.tasks[1]["data"]["tile_id"]
    for full in (False, True):
        assert pull(workspace, server, PullConfig(full=full)).known == 2
        assert pulled.boxes_of(workspace, second) == [[18, 18, 27, 27, 0]]
    people.withdraw(newer)
    assert pull(workspace, server, PullConfig(full=True)).withdrawn == 1
    assert pull(workspace, server, PullConfig(full=True)).tiles == 1
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 12, 15, 0]]
    assert pulled.tile_of(workspace, 1) == tile
    people.edit(older, [])
    assert pull(workspace, server, PullConfig()).empty == 1


def test_a_task_whose_key_somebody_changed_is_left_alone_and_the_others_come(workspace, studio, server, people, draw, pulled):
    studio.tasks[1]["data"]["tilehawk"] = studio.tasks[2]["data"]["tilehawk"]
    people.submit(2, [])
    people.submit(1, [draw(2, 3, 10, 12)])
    people.submit(3, [])
    report = pull(workspace, server, PullConfig())
    assert (report.tiles, report.foreign) == (2, 1)
    assert "task 1 says" in report.notes[0]
    assert set(pulled.reviewed(workspace)) == {2, 3}
    assert pulled.boxes_of(workspace, 2) == []


@pytest.mark.parametrize("edited", [False, True])
def test_what_was_saved_here_while_an_answer_was_on_its_way_is_replaced_aloud(workspace, server, people, draw, pulled, edited):
    answer = people.submit(1, [draw(2, 3, 10, 12)])
    if edited:
        pull(workspace, server, PullConfig())
        people.edit(answer, [draw(2, 3, 12, 12)])
    with workspace.session() as session:
        here = Boxes(np.array([[5.0, 5, 25, 25]]), np.array([1]))
        save_review(session, pulled.tile_of(workspace, 1), here, source="browser", annotator="bo", seconds=1, complete=True)
    people.submit(2, [draw(2, 3, 10, 12)])
    report = pull(workspace, server, PullConfig())
    assert pulled.boxes_of(workspace, 1) == [[2, 3, 14 if edited else 12, 15, 0]]
    assert [note for note in report.notes if "saved here" in note] == [report.notes[0]]
    assert "bo saved here" in report.notes[0]
