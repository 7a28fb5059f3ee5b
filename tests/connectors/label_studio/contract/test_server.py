"""What push and pull rely on, held by the fake and by a real Label Studio alike."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.tasks import label_config
from engine.annotation_server import Cursor, ServerProject, Suggestion, TileTask
from engine.boxes import Boxes
from engine.errors import BadInput, LabelSetMismatch
from engine.evaluation.drawing import png_bytes
from engine.label_set import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")

CLASSES = LabelSet.of(["car", '<b>"ship"</b> & co', "größe"])
SIDE = 256
numbers = itertools.count(1)


def task(tile: int, *xyxy: list[float], content: str = "0" * 64, model: str = "detector", score: float | None = 0.5) -> TileTask:
    shown = Suggestion(Boxes(np.array(xyxy), np.arange(len(xyxy)) % len(CLASSES)), model, score) if xyxy else None
    place: dict[str, Any] = {"scene": '"><img src=x>.tif', "x": 512, "y": 0, "reason": "nothing is labelled yet that is like it"}
    return TileTask(
        f"ws:{tile}", tile, content, f"http://127.0.0.1:1/signed/tiles/{tile}.png?expires=1", SIDE, SIDE, suggestion=shown, **place
    )


def picture(red: int) -> bytes:
    return png_bytes(np.full((4, 4, 3), [red, 0, 0], dtype=np.uint8))


@pytest.fixture(scope="session")
def rectangle(fake):
    return partial(fake("annotators").rectangle, side=SIDE)


@pytest.fixture
def project(server: LabelStudioServer) -> ServerProject:
    return server.make_project("contract", f"tilehawk:test:{next(numbers)}", CLASSES)


def test_the_token_is_that_of_a_user(server):
    assert server.who() == "ada@example.com"


def test_a_wrong_token_is_refused_by_name_and_not_repeated(people):
    wrong = "f" * 40
    with pytest.raises(BadInput, match=r"refuses the token.*Invalid token.*tilehawk connect") as refusal:
        LabelStudioServer(people.url, wrong).who()
    assert wrong not in str(refusal.value)


def test_a_project_is_found_again_by_its_marker_and_its_configuration_comes_back(server):
    marker = f"tilehawk:test:{next(numbers)}"
    assert server.find_project(marker) is None
    made = server.make_project("a title", marker, CLASSES)
    assert (made.title, made.tasks) == ("a title", 0)
    assert server.find_project(marker) == made == server.project(made.id)
    server.require_classes(made, CLASSES)


def test_a_configuration_that_was_changed_is_refused_naming_the_difference(server, people, project):
    people.change_config(project.id, label_config(LabelSet.of(["car", "boat"])))
    with pytest.raises(LabelSetMismatch, match=r"lacks the classes .*größe.* it has the classes \['boat'\] in addition.*new_project"):
        server.require_classes(server.project(project.id), CLASSES)


def test_a_project_that_is_gone_is_said_to_be(server, people, project):
    people.delete_project(project.id)
    for ask in (
        lambda: server.project(project.id),
        lambda: server.add_tasks(project.id, [task(1)], CLASSES),
    ):
        with pytest.raises(BadInput, match=f"project {project.id} is gone.*new_project"):
            ask()


def test_tasks_come_with_one_prediction_each_in_their_order_and_are_counted(server, people, project):
    tasks = [task(7, [0, 0, 10, 20], [100.5, 30.25, 200, 256], score=0.625), task(3), task(5, [1, 1, 9, 9], score=None, model="accepted")]
    ids = server.add_tasks(project.id, tasks, CLASSES)
    assert server.project(project.id).tasks == 3
    assert [(each.id, each.key, each.content_hash, each.answered) for each in server.tasks(project.id)] == [
        (number, made.key, made.content_hash, False) for number, made in sorted(zip(ids, tasks, strict=True), key=lambda pair: pair[0])
    ]
    found = people.task(project.id, ids[0])
    assert found["data"]["image"] == tasks[0].image
    assert found["data"]["scene"] == tasks[0].scene
    [prediction] = found["predictions"]
    assert (prediction["score"], prediction["model_version"]) == (0.625, "detector")
    assert [region["value"]["rectanglelabels"] for region in prediction["result"]] == [["car"], ['<b>"ship"</b> & co']]
    assert people.predictions(ids[1]) == []
    assert len(people.predictions(ids[2])) == 1


def test_pictures_are_served_from_a_folder_of_the_server_and_from_no_other(server, people, project):
    folder = people.pictures / "tilehawk" / str(project.id)
    with pytest.raises(BadInput, match=r"it does not serve .*LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true.*local_root_there"):
        server.serve_pictures(project.id, str(folder))
    folder.mkdir(parents=True)
    for _ in range(2):
        server.serve_pictures(project.id, str(folder))
    assert people.storages(project.id) == [str(folder)]
    with pytest.raises(BadInput, match="it does not serve /etc"):
        server.serve_pictures(project.id, "/etc")


def test_uploaded_pictures_make_no_tasks_and_are_found_again_by_their_names(server, people, project):
    assert server.pictures(project.id) == {}
    sent = {f"tilehawk-{number}-{'0' * 16}.png": picture(number) for number in (3, 1, 2)}
    addresses = server.upload_pictures(project.id, sent)
    assert set(addresses) == set(sent)
    assert server.pictures(project.id) == addresses
    assert list(server.tasks(project.id)) == []
    for name, content in sent.items():
        assert people.file(addresses[name]) == content
    more = server.upload_pictures(project.id, {"tilehawk-9-f.png": picture(9)})
    assert server.pictures(project.id) == {**addresses, **more}


def test_only_tasks_after_an_id_are_listed(server, project):
    ids = server.add_tasks(project.id, [task(tile) for tile in range(1, 6)], CLASSES)
    assert [each.id for each in server.tasks(project.id, after=ids[2])] == ids[3:]
    assert list(server.tasks(project.id, after=ids[-1])) == []


def test_tasks_of_others_have_no_key_and_people_at_work_show(server, people, project):
    people.add(project.id, [{"data": {"image": "http://127.0.0.1:1/theirs.png"}}])
    ids = server.add_tasks(project.id, [task(1), task(2)], CLASSES)
    people.skip(ids[0])
    assert [(each.key, each.answered) for each in server.tasks(project.id)] == [("", False), ("ws:1", True), ("ws:2", False)]


def test_a_replaced_task_shows_the_new_suggestion_alone_and_keeps_what_others_made(server, people, project, rectangle):
    [number] = server.add_tasks(project.id, [task(1, [0, 0, 10, 10], content="a" * 64)], CLASSES)
    people.predict(number, [rectangle(1, 1, 5, 5)], "theirs")
    annotation = people.submit(number, [rectangle(0, 0, 50, 50)])
    new = replace(task(1, [20, 20, 40, 40], [0, 0, 5, 5], content="b" * 64, model="better"), image="http://127.0.0.1:1/new.png")
    for _ in range(2):
        server.replace_task(number, new, CLASSES)
        assert sorted((each["model_version"], len(each["result"])) for each in people.predictions(number)) == [("better", 2), ("theirs", 1)]
    found = people.task(project.id, number)
    assert found["data"]["image"] == new.image
    assert [each["id"] for each in found["annotations"]] == [annotation]
    server.replace_task(number, task(1, content="c" * 64), CLASSES)
    assert [each["model_version"] for each in people.predictions(number)] == ["theirs"]


def test_deleting_a_task_twice_is_no_error(server, project):
    [number] = server.add_tasks(project.id, [task(1)], CLASSES)
    server.delete_task(number)
    server.delete_task(number)
    assert server.project(project.id).tasks == 0


def test_answers_come_by_the_time_of_their_change_and_only_once_past_the_cursor(server, people, project, rectangle):
    ids = server.add_tasks(project.id, [task(tile) for tile in range(1, 5)], CLASSES)
    first = server.answers(project.id, Cursor(), 100)
    assert first.complete
    assert [(each.task_id, each.answers) for each in first.tasks] == [(number, []) for number in ids]
    people.submit(ids[2], [rectangle(10, 10, 20, 20)], lead_time=4.5)
    people.skip(ids[0])
    page = server.answers(project.id, first.tasks[-1].position, 100)
    assert [(task.task_id, task.key, each.kind, each.seconds) for task in page.tasks for each in task.answers] == [
        (ids[2], "ws:3", "submitted", 4.5),
        (ids[0], "ws:1", "skipped", None),
    ]
    assert page.tasks[0].answers[0].annotator == "ada@example.com"
    assert server.answers(project.id, page.tasks[-1].position, 100).tasks == []


def test_every_answer_is_on_exactly_one_of_the_small_pages(server, people, project):
    ids = server.add_tasks(project.id, [task(tile) for tile in range(1, 12)], CLASSES)
    position, seen = Cursor(), []
    while True:
        page = server.answers(project.id, position, 3)
        seen += [each.task_id for each in page.tasks]
        if page.complete:
            break
        position = page.tasks[-1].position
    assert seen == ids


def test_every_answer_stands_in_the_order_of_its_time_and_an_edit_is_a_new_one(server, people, project, rectangle):
    [number] = server.add_tasks(project.id, [task(1)], CLASSES)

    def said() -> Any:
        return server.answers(project.id, Cursor(), 10).tasks[-1]

    def boxes(answers: Any) -> list[int]:
        return [len(each.read(SIDE, SIDE, CLASSES).boxes_tile) for each in answers]

    first = people.submit(number, [rectangle(0, 0, 50, 50)])
    one = said()
    second = people.submit(number, [rectangle(0, 0, 25, 25), rectangle(50, 50, 25, 25)])
    two = said()
    people.edit(first, [], lead_time=9.0)
    three = said()
    skipped = people.skip(number)
    four = said()
    assert [each.id for each in four.answers] == [second, first, skipped]
    assert [each.kind for each in four.answers] == ["submitted", "submitted", "skipped"]
    assert [boxes(each.answers) for each in (one, two, three)] == [[1], [1, 2], [2, 0]]
    assert len({one.answers[0].digest, two.answers[1].digest, three.answers[1].digest}) == 3
    assert three.answers[1].digest == four.answers[1].digest
    assert one.position < two.position < three.position < four.position


def test_an_answer_that_was_deleted_stands_no_more_and_its_task_has_changed(server, people, project, rectangle):
    [number] = server.add_tasks(project.id, [task(1)], CLASSES)
    deleted = people.submit(number, [rectangle(0, 0, 50, 50)])
    kept = people.submit(number, [])
    before = server.answers(project.id, Cursor(), 10).tasks[-1]
    people.withdraw(deleted)
    after = server.answers(project.id, Cursor(), 10).tasks[-1]
    assert [each.id for each in after.answers] == [kept]
    assert after.position > before.position
    people.withdraw(kept)
    assert server.answers(project.id, Cursor(), 10).tasks[-1].answers == []


def test_a_project_asks_as_many_annotators_as_it_was_made_for(server):
    made = server.make_project("several", f"tilehawk:test:{next(numbers)}", CLASSES, annotators=3)
    assert (made.annotators, server.project(made.id).annotators) == (3, 3)


def test_boxes_come_back_where_they_were_shown_or_drawn(server, people, project):
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, 200, (20, 2))
    xyxy = np.hstack([corner, corner + generator.uniform(1.1, 56, (20, 2))])
    [number] = server.add_tasks(project.id, [task(1, *xyxy.tolist())], CLASSES)
    people.submit(number, people.predictions(number)[0]["result"])
    [answer] = server.answers(project.id, Cursor(), 10).tasks[0].answers
    drawn = answer.read(SIDE, SIDE, CLASSES)
    assert np.abs(drawn.boxes_tile.xyxy - xyxy).max() < 0.01
    assert drawn.boxes_tile.labels.tolist() == [index % 3 for index in range(20)]
    assert drawn.notes == drawn.rejected == drawn.conflicts == ()
