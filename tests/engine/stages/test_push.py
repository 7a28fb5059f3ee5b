"""Push: every unreviewed tile of a round has one task, whatever was pushed before, and nothing of others is touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.tasks import label_config
from engine.catalog import remote
from engine.catalog.annotations import mark_reviewed
from engine.catalog.ledger import events
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation, Base, RemoteTask
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, LabelSetMismatch, NothingToDo, TilehawkError
from engine.label_set import LabelSet
from engine.stages.push import PushConfig, plan_push, push
from engine.stages.rank import RankConfig, rank

Fake = Callable[[str], ModuleType]


IMPORT = 4
"""Which request of a push into an emptied project is the import: after those for the project, its newer tasks and all its tasks."""


def address(tile: int) -> str:
    return f"http://127.0.0.1:7860/signed/tiles/{tile}.png?expires={time.time()}"


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    """Sixteen train tiles whose detector finds everything, ranked into a round of all of them."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        fake("labelled").predict(made, "found")
        rank(made, RankConfig(budget_seconds=1e6))
        yield made


def tiles_of(studio: Any) -> list[int]:
    return sorted(each["data"]["tile_id"] for each in studio.tasks.values())


def writes(studio: Any) -> list[tuple[str, str]]:
    return [entry for entry in studio.log if entry[0] != "GET"]


def test_tiles_go_in_the_order_of_the_round_with_what_the_detector_found(workspace, studio, server, fake):
    truth = fake("labelled").truth(workspace, "train")
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.updated, report.unchanged, report.found, report.removed, report.reviewed) == (16, 0, 0, 0, 0, 0)
    assert report.boxes == sum(map(len, truth.values())) > 0
    with workspace.session(write=False) as session:
        key = remote.workspace_key(session)
        rows = {row.tile_id: row for row in session.query(RemoteTask)}
        order = [link.tile_id for link in ranked(session)]
    pushed = [studio.tasks[number]["data"] for number in sorted(studio.tasks)]
    assert [data["tile_id"] for data in pushed] == order
    assert {int(row.remote_id): row.tile_id for row in rows.values()} == {
        each["id"]: each["data"]["tile_id"] for each in studio.tasks.values()
    }
    first = pushed[0]
    assert set(first) == {"image", "tilehawk", "content", "tile_id", "scene", "x", "y", "reason"}
    assert first["tilehawk"] == f"{key}:{first['tile_id']}"
    assert first["image"].startswith(f"http://127.0.0.1:7860/signed/tiles/{first['tile_id']}.png?")
    assert first["reason"]
    for number, task in studio.tasks.items():
        predictions = studio.of_task("predictions", number)
        expected = truth[task["data"]["tile_id"]]
        assert len(predictions) == (len(expected) > 0)
        for prediction in predictions:
            assert prediction["model_version"] == "detector"
            assert prediction["score"] == pytest.approx(0.9, abs=0.1)
            assert sorted(region["value"]["x"] * 0.32 for region in prediction["result"]) == pytest.approx(
                sorted(expected.xyxy[:, 0]), abs=0.01
            )


def ranked(session):
    from engine.catalog.rounds import get_round, round_tiles

    return round_tiles(session, get_round(session))


def test_the_same_again_sends_nothing(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    before = writes(studio)
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.updated, report.unchanged) == (0, 0, 16)
    assert writes(studio) == before


def test_what_was_shown_is_kept_and_learned_again_where_it_was_not_known(workspace, studio, server, fake):
    truth = fake("labelled").truth(workspace, "train")
    push(workspace, server, address, PushConfig())

    def kept():
        with workspace.session(write=False) as session:
            return {row.tile_id: remote.shown_boxes(row) for row in session.query(RemoteTask)}

    first = kept()
    assert {tile: len(boxes) for tile, boxes in first.items()} == {tile: len(boxes) for tile, boxes in truth.items()}
    with workspace.session() as session:
        for row in session.query(RemoteTask).limit(3):
            row.shown = None
    assert sum(boxes is None for boxes in kept().values()) == 3
    assert push(workspace, server, address, PushConfig()).unchanged == 16
    assert {tile: boxes.xyxy.tolist() for tile, boxes in kept().items()} == {tile: boxes.xyxy.tolist() for tile, boxes in first.items()}


def test_without_a_detector_only_accepted_boxes_are_shown(workspace, studio, server, fake):
    chosen = fake("labelled").records(workspace, "train")[2:4]
    with workspace.session() as session:
        add_round(session, budget_seconds=60, strategy="random", seed=0, chosen=[ChosenTile(tile.id, 1, 30, {}) for tile in chosen])
        x, y = chosen[0].window.x, chosen[0].window.y
        session.add(Annotation(scene_id=chosen[0].scene_id, x1=x + 1, y1=y + 1, x2=x + 9, y2=y + 9, label=1, source="browser"))
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.boxes) == (2, 1)
    [prediction] = studio.predictions.values()
    assert (prediction["model_version"], prediction["score"]) == ("accepted", None)
    assert prediction["result"][0]["value"]["rectanglelabels"] == ["ship"]


@pytest.mark.parametrize("shown_score", [0.3, 0.95])
def test_weak_predictions_are_not_shown(workspace, studio, server, fake, shown_score):
    push(workspace, server, address, PushConfig(shown_score=shown_score))
    scores = [each["score"] for each in studio.predictions.values()]
    assert all(score >= shown_score for score in scores)
    assert len(scores) == {0.3: 12, 0.95: 0}[shown_score]


def test_reviewed_tiles_are_left_out_and_a_reviewed_round_is_nothing_to_do(workspace, studio, server, fake):
    train = [tile.id for tile in fake("labelled").records(workspace, "train")]
    with workspace.session() as session:
        mark_reviewed(session, train[:5], by="ada")
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.reviewed) == (11, 5)
    assert tiles_of(studio) == train[5:]
    with workspace.session() as session:
        mark_reviewed(session, train, by="ada")
    with pytest.raises(NothingToDo, match=r"all 16 tiles of round 1 are reviewed.*tilehawk rank"):
        push(workspace, server, address, PushConfig())


def test_a_tile_ranked_again_with_better_predictions_keeps_its_task(workspace, studio, server, fake):
    push(workspace, server, address, PushConfig())
    before = tiles_of(studio)
    fake("labelled").predict(workspace, "better", model="newer", score=0.8)
    rank(workspace, RankConfig(budget_seconds=1e6, predictions="better", waiting_too=True))
    report = push(workspace, server, address, PushConfig())
    empty = sum(not len(boxes) for boxes in fake("labelled").truth(workspace, "train").values())
    assert (report.round, report.pushed, report.updated, report.unchanged) == (2, 0, 16 - empty, empty)
    assert tiles_of(studio) == before
    assert {each["model_version"] for each in studio.predictions.values()} == {"newer"}
    with workspace.session(write=False) as session:
        assert {row.round_id for row in session.query(RemoteTask)} == {2}
    assert push(workspace, server, address, PushConfig()).unchanged == 16


def test_an_old_address_is_renewed(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    before = {number: each["data"]["image"] for number, each in studio.tasks.items()}
    with workspace.session() as session:
        for row in session.query(RemoteTask).limit(3):
            row.created -= 40 * 86400
    assert push(workspace, server, address, PushConfig()).updated == 3
    assert sum(each["data"]["image"] != before[number] for number, each in studio.tasks.items()) == 3
    assert len(studio.predictions) == len({each["task"] for each in studio.predictions.values()})


def test_a_picture_at_another_place_is_told(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    moved = push(workspace, server, lambda tile: f"https://tiles.example.org/signed/tiles/{tile}.png?expires=1", PushConfig())
    assert moved.updated == 16


@pytest.mark.guarantee("G23")
def test_a_changed_configuration_is_refused_before_anything_is_sent(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    studio.projects[1]["label_config"] = label_config(LabelSet.of(["car", "boat"]))
    fake_round(workspace)
    before = writes(studio)
    with pytest.raises(LabelSetMismatch, match=r"lacks the classes \['ship'\]"):
        push(workspace, server, address, PushConfig(shown_score=0.99))
    assert writes(studio) == before
    report = push(workspace, server, address, PushConfig(new_project=True, title="once more"))
    assert (report.project, report.title, report.pushed) == (2, "once more", 3)


def fake_round(workspace: Workspace) -> None:
    with workspace.session() as session:
        chosen = [ChosenTile(link.tile_id, 1, 30, {}) for link in ranked(session)[:3]]
        add_round(session, budget_seconds=60, strategy="random", seed=0, chosen=chosen)


def test_a_project_that_is_gone_is_named_and_another_is_made_on_demand(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    studio.projects.clear()
    studio.tasks.clear()
    with pytest.raises(BadInput, match=r"project 1 is gone.*new_project=true"):
        push(workspace, server, address, PushConfig())
    assert push(workspace, server, address, PushConfig(new_project=True)).pushed == 16
    assert push(workspace, server, address, PushConfig()).unchanged == 16


def test_tasks_deleted_over_there_are_pushed_anew(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    for number in (2, 5):
        del studio.tasks[number]
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.unchanged) == (2, 14)
    assert len(tiles_of(studio)) == len(set(tiles_of(studio))) == 16


def test_what_others_put_into_the_project_stays_and_is_not_counted(workspace, studio, server, fake):
    push(workspace, server, address, PushConfig())
    people = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    people.add(1, [{"data": {"image": "theirs"}}, {"data": {"image": "theirs", "tilehawk": f"{'0' * 16}:1"}}])
    people.predict(1, [fake("annotators").rectangle(1, 1, 9, 9)], "theirs")
    people.close()
    fake("labelled").predict(workspace, "better", model="newer")
    rank(workspace, RankConfig(budget_seconds=1e6, predictions="better", waiting_too=True))
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.found, report.removed) == (0, 0, 0)
    assert report.updated > 10
    assert sum(each["data"]["image"] == "theirs" for each in studio.tasks.values()) == 2
    assert sum(each["model_version"] == "theirs" for each in studio.predictions.values()) == 1


@pytest.mark.parametrize("worked_on", ["neither", "first", "second", "both"])
def test_of_two_tasks_for_a_tile_the_one_somebody_worked_on_stays(workspace, studio, server, fake, worked_on):
    push(workspace, server, address, PushConfig())
    people = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    people.add(1, [{"data": studio.tasks[3]["data"]}])
    for number in {"neither": [], "first": [3], "second": [17], "both": [3, 17]}[worked_on]:
        people.submit(number, [])
    people.close()
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.removed) == (0, 0 if worked_on == "both" else 1)
    there = {number for number in (3, 17) if number in studio.tasks}
    assert there == {"neither": {3}, "first": {3}, "second": {17}, "both": {3, 17}}[worked_on]
    with workspace.session(write=False) as session:
        known = {int(row.remote_id) for row in session.query(RemoteTask)}
    assert known == set(studio.tasks) - ({17} if worked_on == "both" else set())


def test_cancelled_between_requests_it_goes_on_where_it_was(workspace, studio, server):
    def stop(done: int, total: int, message: str) -> None:
        if done >= 8:
            raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        push(workspace, server, address, PushConfig(chunk=4), progress=stop)
    assert len(studio.tasks) == 8
    report = push(workspace, server, address, PushConfig(chunk=4))
    assert (report.pushed, report.unchanged, report.found) == (8, 8, 0)
    assert len(tiles_of(studio)) == len(set(tiles_of(studio))) == 16


@pytest.mark.guarantee("G6")
def test_an_import_whose_answer_is_lost_is_found_again_and_never_repeated(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    before = len([entry for entry in studio.log if entry[1].endswith("/import")])
    studio.tasks.clear()
    studio.predictions.clear()
    studio.faults = {IMPORT: "late"}
    with pytest.raises(TilehawkError, match="cannot be reached"):
        push(workspace, server, address, PushConfig())
    assert len([entry for entry in studio.log if entry[1].endswith("/import")]) == before + 1
    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.found, report.unchanged) == (0, 16, 16)
    assert len(tiles_of(studio)) == len(set(tiles_of(studio))) == 16


def test_an_unreachable_server_and_no_round_say_what_to_do(workspace, tmp_path, fake):
    nobody = LabelStudioServer("http://127.0.0.1:9", "x", pause=lambda _: None)
    with pytest.raises(TilehawkError, match=r"http://127.0.0.1:9 cannot be reached \(ConnectError\).*Start it"):
        push(workspace, nobody, address, PushConfig())
    with Workspace.create(tmp_path / "empty") as empty, pytest.raises(BadInput, match="tilehawk rank"):
        push(empty, nobody, address, PushConfig())


def test_what_was_pushed_is_in_the_ledger(workspace, server):
    push(workspace, server, address, PushConfig())
    with workspace.session(write=False) as session:
        [event] = events(session, "push")
    assert event.details == {"round": 1, "project": 1, "pushed": 16, "updated": 0}


def everything(workspace: Workspace) -> dict[str, list[Any]]:
    """Every row of the catalog."""
    with workspace.session(write=False) as session:
        return {table.name: [tuple(row) for row in session.execute(table.select())] for table in Base.metadata.sorted_tables}


def test_a_dry_run_says_what_would_be_sent_and_changes_nothing_here_or_there(workspace, studio, server, fake):
    before = everything(workspace)
    plan = plan_push(workspace, server, address, PushConfig(title="a title"))
    assert (plan.project, plan.title, plan.add, plan.update, plan.unchanged, plan.problems) == (None, "a title", 16, 0, 0, ())
    assert plan.boxes == sum(map(len, fake("labelled").truth(workspace, "train").values()))
    assert (everything(workspace), writes(studio)) == (before, [])

    push(workspace, server, address, PushConfig())
    people = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    people.add(1, [{"data": studio.tasks[3]["data"]}])
    people.close()
    del studio.tasks[5]
    with workspace.session() as session:
        session.query(RemoteTask).where(RemoteTask.remote_id == "7").delete()
        session.query(RemoteTask).where(RemoteTask.remote_id == "9").update({"content_hash": "f" * 64})
    before, sent = everything(workspace), writes(studio)
    plan = plan_push(workspace, server, address, PushConfig())
    assert (plan.project, plan.add, plan.update, plan.unchanged) == (1, 1, 1, 14)
    assert (plan.found, plan.doubles, plan.gone, plan.problems) == (1, 1, 1, ())
    assert (everything(workspace), writes(studio)) == (before, sent)

    report = push(workspace, server, address, PushConfig())
    assert (report.pushed, report.updated, report.unchanged) == (plan.add, plan.update, plan.unchanged)
    assert (report.found, report.removed, report.boxes) == (plan.found, plan.doubles, plan.boxes)


def test_a_dry_run_names_what_a_push_would_be_refused_for(workspace, studio, server):
    push(workspace, server, address, PushConfig())
    studio.projects[1]["label_config"] = label_config(LabelSet.of(["car", "boat"]))
    [problem] = plan_push(workspace, server, address, PushConfig()).problems
    assert "it lacks the classes ['ship']" in problem


def test_a_project_for_several_annotators_asks_so_many_and_one_for_fewer_is_refused(workspace, studio, server):
    push(workspace, server, address, PushConfig(annotators=2))
    assert studio.projects[1]["maximum_annotations"] == 2
    assert push(workspace, server, address, PushConfig(annotators=1)).unchanged == 16
    before = writes(studio)
    with pytest.raises(BadInput, match=r"project 1 .* asks 2 annotator\(s\) a task.*3 at least.*new_project=true"):
        push(workspace, server, address, PushConfig(annotators=3))
    assert writes(studio) == before
    assert "asks 2 annotator(s)" in plan_push(workspace, server, address, PushConfig(annotators=3)).problems[0]
