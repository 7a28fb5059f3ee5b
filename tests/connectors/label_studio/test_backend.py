"""The backend protocol as documents: what Label Studio sends, and what it gets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.label_studio import backend
from connectors.label_studio.tasks import is_ours, label_config, read_boxes
from engine.annotation_server import Suggestion
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet

CLASSES = LabelSet.of(["car", "ship"])


def asked(*keys, **params):
    """A body as Label Studio 1.23 sends it."""
    tasks = [{"id": number, "data": {"image": "http://x/1.png", "tilehawk": key}, "project": 3} for number, key in enumerate(keys)]
    return json.dumps({"tasks": tasks, "project": "3.1700000000", "label_config": "<View/>", "params": {"login": None, **params}}).encode()


def test_a_question_without_a_context_asks_for_suggestions():
    question = backend.read_question(asked("ws:1", "ws:2", context=None))
    assert (question.keys, question.drawn) == (("ws:1", "ws:2"), None)


def test_what_was_drawn_comes_with_the_context():
    region = {"id": "a", "type": "rectanglelabels", "value": {}}
    assert backend.read_question(asked("ws:1", context={"result": [region]})).drawn == (region,)
    assert backend.read_question(asked("ws:1", context={"result": []})).drawn == ()


@pytest.mark.parametrize("context", [{}, {"result": None}, {"result": "drawn"}, "drawn", [1]])
def test_a_context_without_regions_is_none(context):
    assert backend.read_question(asked("ws:1", context=context)).drawn is None


@pytest.mark.parametrize("task", [{}, {"data": None}, {"data": {"image": "x"}}, {"data": {"tilehawk": 7}}, None, "task"])
def test_tasks_of_others_have_no_key_and_keep_their_place(task):
    body = json.dumps({"tasks": [task, {"data": {"tilehawk": "ws:5"}}]}).encode()
    assert backend.read_question(body).keys == ("", "ws:5")


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"{}", b'{"tasks": 1}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_question_is_refused(body):
    with pytest.raises(BadInput, match="the body"):
        backend.read_question(body)


def test_only_the_newest_of_endless_regions_are_read():
    drawn = backend.read_question(asked("ws:1", context={"result": list(range(100_000))})).drawn
    assert (len(drawn), drawn[-1]) == (100, 99_999)


@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 60), st.floats(2, 10), st.floats(2, 10), st.sampled_from([0, 1])), max_size=8))
def test_suggested_boxes_are_read_back_where_they_are(rows):
    xyxy = np.array([[x, y, min(x + w, 100), min(y + h, 70)] for x, y, w, h, _ in rows]).reshape(-1, 4)
    shown = Suggestion(Boxes(xyxy, [row[-1] for row in rows], np.full(len(rows), 0.5)), "detector", 0.5)
    result = backend.suggestion_result(shown, 100, 70, CLASSES, key="ws:1")
    back = read_boxes(result["result"], 100, 70, CLASSES)
    assert np.abs(back.boxes_tile.xyxy - xyxy).max(initial=0) < 0.01
    assert back.boxes_tile.labels.tolist() == shown.boxes_tile.labels.tolist()
    assert back.notes == back.rejected == back.conflicts == ()
    assert (result["score"], result["model_version"]) == (0.5, "detector")


def test_suggestions_are_known_as_ours_and_their_ids_are_their_own():
    shown = Suggestion(Boxes([[0, 0, 9, 9], [1, 1, 8, 8]], [0, 1], [0.9, 0.4]), "detector", 0.65)
    one, other = (backend.suggestion_result(shown, 64, 64, CLASSES, key=key) for key in ("ws:1", "ws:2"))
    assert is_ours(one)
    assert len({region["id"] for result in (one, other) for region in result["result"]}) == 4
    assert backend.suggestion_result(shown, 64, 64, CLASSES, key="ws:1") == one
    assert [region["score"] for region in one["result"]] == [0.9, 0.4]


def test_the_drawn_box_comes_back_first_because_the_page_forgets_it():
    drawn = Boxes([[10, 10, 20, 20]], [1])
    found = Suggestion(Boxes([[30, 30, 40, 42]], [1], [0.7]), "asked", 0.7)
    result = backend.look_alike_result(drawn, found, 64, 64, CLASSES, key="ws:1")
    back = read_boxes(result["result"], 64, 64, CLASSES).boxes_tile
    assert np.allclose(back.xyxy, [[10, 10, 20, 20], [30, 30, 40, 42]])
    assert back.labels.tolist() == [1, 1]
    assert [region["score"] for region in result["result"]] == [1.0, 0.7]


def test_an_answer_has_one_result_a_task_in_their_order():
    answer = backend.answer([None, {"result": [1], "model_version": "m"}, None], "m")
    assert answer == {
        "results": [{"result": [], "model_version": "m"}, {"result": [1], "model_version": "m"}, {"result": [], "model_version": "m"}],
        "model_version": "m",
    }


def test_the_label_configuration_of_a_project_is_read():
    config = label_config(CLASSES)
    assert backend.schema_of(json.dumps({"project": "3.1", "schema": config, "access_token": "theirs"}).encode()) == config
    with pytest.raises(BadInput, match="no label configuration"):
        backend.schema_of(b'{"schema": null}')


def test_the_configuration_lets_people_ask_by_drawing():
    assert 'smart="true"' in label_config(CLASSES)


@pytest.mark.parametrize(
    ("document", "wanted", "project"),
    [
        ({"action": "START_TRAINING", "project": {"id": 7, "title": "x"}}, True, 7),
        ({"action": "START_TRAINING"}, True, None),
        ({"action": "START_TRAINING", "project": {"id": True}}, True, None),
        ({"action": "ANNOTATION_CREATED", "project": {"id": 7}}, False, 7),
        ([], False, None),
    ],
)
def test_a_training_is_asked_for_by_its_action_alone(document, wanted, project):
    body = json.dumps(document).encode()
    assert (backend.wants_training(body), backend.training_project(body)) == (wanted, project)
