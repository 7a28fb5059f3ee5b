"""The client under faults: what is added is never added twice, and what is gone is said."""

from __future__ import annotations

import pytest

from engine.annotation_server import Cursor, TileTask
from engine.errors import BadInput, TilehawkError
from engine.label_set import LabelSet

CLASSES = LabelSet.of(["car"])
DONE_AND_LOST = {"late", "cut", "torn"}
"""What the server did, and nobody was told of."""
TASK = TileTask("ws:1", 1, "0" * 64, "http://127.0.0.1:1/1.png", 32, 32, "a.tif", 0, 0, "", None)


@pytest.mark.guarantee("G19")
@pytest.mark.parametrize("fault", ["reset", "502", "late", "cut", "torn"])
def test_adding_is_never_repeated(studio, server, fault):
    project = server.make_project("title", "marker", CLASSES)
    studio.log.clear()
    studio.faults = {1: fault}
    with pytest.raises(TilehawkError):
        server.add_tasks(project.id, [TASK], CLASSES)
    assert len(studio.log) == 1
    assert len(studio.tasks) == (fault in DONE_AND_LOST)
    studio.faults = {1: fault}
    with pytest.raises(TilehawkError):
        server.make_project("title", "other", CLASSES)
    assert len(studio.projects) == (2 if fault in DONE_AND_LOST else 1)


def test_an_import_that_names_too_few_ids_is_not_believed(studio, server, monkeypatch):
    project = server.make_project("title", "marker", CLASSES)
    monkeypatch.setattr(server.connection.sdk.projects, "import_tasks", lambda **_: type("Said", (), {"task_ids": [1]})())
    with pytest.raises(TilehawkError, match="imported 2 tasks and named 1"):
        server.add_tasks(project.id, [TASK, TASK], CLASSES)


def test_a_project_that_is_gone_is_not_asked_for_again(studio, server):
    with pytest.raises(BadInput, match="project 7 is gone"):
        server.answers(7, Cursor(), 10)
    assert len(studio.log) == 1
