"""A real Label Studio is connected to the backend, on loopback, and asks it for everything that it asks for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.routes import ml_backend
from app.suggester import Suggester
from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.registration import register_backend
from engine.annotation_server import Suggestion, TileTask
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.annotations import label_set, set_label_set
from engine.catalog.models import add_model
from engine.catalog.workspace import Workspace
from engine.errors import TilehawkError

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SECRET = "s3cret"
SIDE = 64
LOOPBACK = {"USE_DEFAULT_BANNED_SUBNETS": "false", "USER_ADDITIONAL_BANNED_SUBNETS": "10.0.0.0/8,169.254.0.0/16"}
"""Label Studio asks no private address by itself, this machine's included."""


class Answers:
    """One box on every tile, and one look-alike of whatever is drawn."""

    def on_tiles(self, tile_ids):
        return {tile: Suggestion(Boxes([[2, 3, 20, 30]], [1], [0.8]), "detector", 0.8) for tile in tile_ids}

    def look_alikes(self, tile_id, drawn):
        return Suggestion(Boxes([[40, 40, 50, 50]], drawn.labels[:1], [0.6]), "asked", 0.6)


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/label-studio"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def studio(fake, tmp_path_factory) -> Iterator[Any]:
    real = fake("real_label_studio")
    try:
        with real.serving(tmp_path_factory.mktemp("label-studio"), **LOOPBACK) as found:
            yield found
    except real.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def jobs(fake):
    return fake("jobs").FakeJobs()


@pytest.fixture(scope="module")
def world(fake, studio, jobs, tmp_path_factory) -> Iterator[Any]:
    """A workspace whose four tiles are tasks of a project over there, and the backend that answers for it."""
    with Workspace.create(tmp_path_factory.mktemp("backend") / "workspace") as workspace:
        server = workspace.server = LabelStudioServer(studio.url, studio.token)
        with workspace.session() as session:
            classes = set_label_set(session, ["car", "ship"])
            _, rows = fake("catalog").add_scene(session, "a.tif", width=4 * SIDE, height=SIDE, split="train")
            key, fingerprint = remote.workspace_key(session), label_set(session).fingerprint
            add_model(session, name="detector", stage="finetune", config={}, data_hash="0", label_set_fingerprint=fingerprint)
            project = server.make_project("backend", remote.project_marker(key, 1), classes)
            made = {"server": server.address, "remote_id": project.id, "title": "backend", "label_config": project.label_config}
            remote.add_project(session, **made, label_set_fingerprint=fingerprint)
            ids = [row.id for row in rows]
        where: dict[str, Any] = {"image": "http://127.0.0.1:1/x.png", "width": SIDE, "height": SIDE, "scene": "a.tif", "x": 0, "y": 0}
        tasks = [TileTask(remote.task_key(key, tile), tile, "0" * 64, reason="", suggestion=None, **where) for tile in ids]
        workspace.project, workspace.tasks = project.id, server.add_tasks(project.id, tasks, classes)
        app = FastAPI()
        app.include_router(ml_backend.router(workspace, jobs, Suggester(Answers), SECRET))
        with listening(app) as url:
            workspace.url = url
            yield workspace


@pytest.fixture(scope="module")
def http(studio):
    with httpx.Client(base_url=studio.url, headers={"Authorization": f"Token {studio.token}"}, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def connected(http, world):
    """The number under which Label Studio knows the backend."""
    assert [enter(world) for _ in range(2)] == [True, False]
    [found] = http.get("/api/ml/", params={"project": world.project}).json()
    return found["id"]


def enter(world, password=SECRET):
    return register_backend(world.server, world.project, world.url, "tilehawk", password)


def test_a_wrong_password_is_noticed_when_it_is_entered(world):
    with pytest.raises(TilehawkError, match="authentication parameters"):
        enter(world, "wrong")


def test_it_is_connected_and_its_version_is_the_detectors_name(http, connected):
    found = http.get(f"/api/ml/{connected}").json()
    assert (found["readable_state"], found["model_version"], found["error_message"]) == ("Connected", "detector", None)
    assert http.get(f"/api/ml/{connected}/versions").json() == {"versions": ["detector"]}


def test_predictions_are_asked_for_and_kept(http, world, connected):
    parameters = {"id": "retrieve_tasks_predictions", "project": world.project}
    asked = http.post("/api/dm/actions", params=parameters, json={"selectedItems": {"all": True, "excluded": []}})
    assert asked.status_code == 200, asked.text
    for task in world.tasks:
        [found] = http.get("/api/predictions/", params={"task": task}).json()
        assert (found["model_version"], found["score"]) == ("detector", 0.8)
        [region] = found["result"]
        assert region["value"]["rectanglelabels"] == ["ship"]
        assert [region["value"][name] * SIDE / 100 for name in ("x", "y", "width", "height")] == pytest.approx([2, 3, 18, 27], abs=0.01)


def test_a_drawn_box_brings_its_look_alikes(http, world, connected):
    value = {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["car"]}
    region = {"id": "drawn", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "image_rotation": 0}
    drawn = {**region, "original_width": SIDE, "original_height": SIDE, "value": value, "origin": "manual"}
    asked = http.post(f"/api/ml/{connected}/interactive-annotating", json={"task": world.tasks[1], "context": {"result": [drawn]}})
    assert asked.status_code == 200, asked.text
    result = asked.json()["data"]["result"]
    assert [(each["value"]["rectanglelabels"], round(each["value"]["x"], 2)) for each in result] == [(["car"], 10), (["car"], 62.5)]
    assert len({"drawn", *(each["id"] for each in result)}) == 3


def test_the_project_shows_what_the_backend_says_and_its_webhook_carries_the_proof(http, world, connected, jobs):
    assert http.get(f"/api/projects/{world.project}").json()["model_version"] == "Tilehawk"
    [webhook] = http.get("/api/webhooks/", params={"project": world.project}).json()
    assert (webhook["send_payload"], webhook["send_for_all_actions"]) == (False, False)
    http.post(f"/api/tasks/{world.tasks[0]}/annotations/", json={"result": []}).raise_for_status()
    assert [(job.verb, job.config) for job in jobs.queued] == [("pull", {})]


def test_start_training_queues_one_retraining(http, connected, jobs):
    for _ in range(3):
        assert http.post(f"/api/ml/{connected}/train").status_code == 200
    assert [(job.verb, job.config) for job in jobs.queued].count(("retrain", {})) == 1
