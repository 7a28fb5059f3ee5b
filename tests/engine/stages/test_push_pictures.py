"""Pictures of the tasks of a push: on the server's disk, or uploaded to it, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.catalog import task_pictures
from engine.catalog.pixels import TilePixels
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import RemoteTask
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, TilehawkError, UsageError
from engine.stages.push import PushConfig, plan_push, push

Fake = Callable[[str], ModuleType]


def address(tile: int) -> str:
    return f"http://127.0.0.1:7860/signed/tiles/{tile}.png?expires={time.time()}"


def writes(studio: Any) -> list[tuple[str, str]]:
    return [entry for entry in studio.log if entry[0] != "GET"]


@pytest.fixture
def painted(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    """A round of eight tiles of a scene that is a file."""
    with Workspace.create(tmp_path / "painted") as made:
        fake("labelled").fill(made, fake("catalog").add_scene, train=1)
        fake("labelled").paint(made, tmp_path / "scene.png")
        with made.session() as session:
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
        yield made


def test_pictures_are_written_where_the_server_serves_files(painted, tmp_path, studio, server):
    studio.pictures = tmp_path / "served"
    studio.pictures.mkdir()
    local = PushConfig(images="local-files", local_root=studio.pictures)
    assert plan_push(painted, server, address, local).add == 8
    assert list(studio.pictures.iterdir()) == []
    assert push(painted, server, address, local).pushed == 8
    [storage] = studio.storages
    for task in studio.tasks.values():
        path, _, name = task["data"]["image"].partition("?d=")
        assert path == "/data/local-files/"
        assert (studio.pictures / name).is_relative_to(storage["path"])
        with Image.open(studio.pictures / name) as picture:
            assert picture.size == (32, 32)
    again = push(painted, server, address, local)
    assert (again.unchanged, len(studio.storages)) == (8, 1)
    assert push(painted, server, address, PushConfig()).updated == 8


UPLOADED = PushConfig(images="upload")


def test_pictures_are_uploaded_once_and_shown_from_there(painted, studio, server, monkeypatch):
    monkeypatch.setattr(task_pictures, "UPLOADED_AT_ONCE", 3)
    assert plan_push(painted, server, address, UPLOADED).add == 8
    assert studio.uploads == {}
    assert push(painted, server, address, UPLOADED).pushed == 8
    requests = [entry for entry in studio.log if entry == ("POST", "/api/projects/1/import")]
    assert len(requests) == 3 + 1
    held = {f"/data/{each['file']}": each["content"] for each in studio.uploads.values()}
    assert sorted(held) == sorted(task["data"]["image"] for task in studio.tasks.values())
    with painted.session(write=False) as session, TilePixels(painted) as pixels:
        known = {tile.id: tile for tile in tiles(session)}
        for task in studio.tasks.values():
            with Image.open(BytesIO(held[task["data"]["image"]])) as picture:
                assert np.array_equal(np.asarray(picture), pixels.read(known[task["data"]["tile_id"]]))
    before = writes(studio)
    assert push(painted, server, address, UPLOADED).unchanged == 8
    assert writes(studio) == before
    assert push(painted, server, address, PushConfig()).updated == 8
    assert push(painted, server, address, UPLOADED).updated == 8
    assert len(studio.uploads) == 8
    assert {task["data"]["image"] for task in studio.tasks.values()} == set(held)


@pytest.mark.parametrize("fault", ["reset", "late", "cut", "torn", "502"])
def test_an_upload_whose_answer_is_lost_is_found_again(painted, studio, server, fault):
    push(painted, server, address, PushConfig())
    for task in [*studio.tasks]:
        studio.tasks.pop(task)
    with painted.session() as session:
        session.query(RemoteTask).delete()
    before = len(studio.log)
    push(painted, server, address, UPLOADED)
    first = next(number for number, entry in enumerate(studio.log[before:], start=1) if entry == ("POST", "/api/projects/1/import"))
    studio.tasks.clear()
    studio.uploads.clear()
    with painted.session() as session:
        session.query(RemoteTask).delete()
    studio.faults[first] = fault
    with pytest.raises(TilehawkError, match="cannot be reached"):
        push(painted, server, address, UPLOADED)
    assert studio.tasks == {}
    assert push(painted, server, address, UPLOADED).pushed == 8
    assert len(studio.uploads) == 8


def test_an_upload_that_the_server_names_by_half_is_an_error_and_goes_on(painted, studio, server, monkeypatch):
    listed = server.connection.sdk.files.list
    monkeypatch.setattr(server.connection.sdk.files, "list", lambda *given, **named: listed(*given, **named)[:-1])
    with pytest.raises(TilehawkError, match="took 8 pictures and named 7"):
        push(painted, server, address, UPLOADED)
    assert studio.tasks == {}
    monkeypatch.undo()
    assert push(painted, server, address, UPLOADED).pushed == 8
    assert len(studio.uploads) == 8


def test_local_files_that_nobody_serves_are_refused_with_what_to_set(painted, tmp_path, studio, server):
    with pytest.raises(UsageError, match="local-files without local_root"):
        push(painted, server, address, PushConfig(images="local-files"))
    with pytest.raises(BadInput, match="is no folder"):
        push(painted, server, address, PushConfig(images="local-files", local_root=tmp_path / "nowhere"))
    with pytest.raises(BadInput, match=r"LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true.*local_root_there"):
        push(painted, server, address, PushConfig(images="local-files", local_root=tmp_path))
    assert studio.tasks == {}


def test_uploading_is_told_and_may_be_stopped_between_two_requests(painted, studio, server, monkeypatch):
    monkeypatch.setattr(task_pictures, "UPLOADED_AT_ONCE", 3)
    told = []

    def stop(done, total, message):
        told.append(message)
        if told.count("bringing pictures") == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        push(painted, server, address, UPLOADED, progress=stop)
    assert len(studio.uploads) == 6
    assert studio.tasks == {}
    assert push(painted, server, address, UPLOADED).pushed == 8
    assert len(studio.uploads) == 8
