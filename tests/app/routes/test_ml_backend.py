"""Label Studio asks for suggestions: only with the right proof, only for our tiles, never more than it needs to know."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from fastapi import FastAPI

from app.bodies import BodyLimit, Uploads
from app.routes import ml_backend
from app.suggester import Suggester
from connectors.label_studio.tasks import label_config, read_boxes
from engine.annotation_server import Suggestion
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.annotations import label_set, set_label_set
from engine.catalog.models import add_model
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import CheckpointRefused, UnreadableImage
from engine.label_set import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client
SECRET = "s3cret"
SHOWN = Boxes([[2, 3, 20, 30]], [1], [0.8])
BAD_PROOFS = [
    None,
    "",
    "Basic",
    "Basic not-base64",
    f"Bearer {SECRET}",
    "Basic " + base64.b64encode(b"tilehawk:wrong").decode(),
    "Basic " + base64.b64encode(f"other:{SECRET}".encode()).decode(),
    "Basic " + base64.b64encode(b"tilehawk:").decode(),
    "Basic " + base64.b64encode(f"tilehawk:{SECRET}x".encode()).decode(),
]
EVERY_ROUTE = [("GET", "health"), ("GET", "versions"), ("POST", "setup"), ("POST", "predict"), ("POST", "webhook")]


class Answers:
    """Says the same of every tile, and notes what it was asked."""

    def __init__(self):
        self.asked, self.drawn, self.fault = [], [], None

    def on_tiles(self, tile_ids):
        if self.fault:
            raise self.fault
        self.asked.append(list(tile_ids))
        return {tile: Suggestion(SHOWN, "detector", 0.8) for tile in tile_ids}

    def look_alikes(self, tile_id, drawn):
        if self.fault:
            raise self.fault
        self.drawn.append((tile_id, drawn))
        return Suggestion(Boxes([[40, 40, 50, 50]], drawn.labels[:1], [0.6]), "asked", 0.6)


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def jobs(fake):
    return fake("jobs").FakeJobs()


@pytest.fixture
def workspace(tmp_path, fake):
    with Workspace.create(tmp_path / "workspace") as opened:
        with opened.session() as session:
            set_label_set(session, ["car", "ship"])
            fake("catalog").add_scene(session, "a.tif", width=256, height=64, split="train")
            opened.key = remote.workspace_key(session)
            fingerprint = label_set(session).fingerprint
            add_model(session, name="detector", stage="finetune", config={}, data_hash="0", label_set_fingerprint=fingerprint)
            add_model(session, name="of-other-classes", stage="finetune", config={}, data_hash="0", label_set_fingerprint="f" * 16)
            project = {"server": "http://ls", "remote_id": 7, "title": "t", "label_config": "", "label_set_fingerprint": fingerprint}
            remote.add_project(session, **project)
        yield opened


@pytest.fixture
def client(workspace, jobs, answers):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(ml_backend.router(workspace, jobs, Suggester(lambda: answers), SECRET))
    app.add_middleware(BodyLimit, uploads=Uploads(workspace), upload_bytes=1024)
    made = TestClient(app, raise_server_exceptions=False)
    made.auth = ("tilehawk", SECRET)
    return made


@pytest.fixture
def tile_ids(workspace):
    with workspace.session(write=False) as session:
        return [tile.id for tile in tiles(session)]


def task(key, number=1):
    return {"id": number, "project": 7, "data": {"image": "http://x/1.png", **({} if key is None else {"tilehawk": key})}}


def predict(client, tasks, **params):
    return client.post("/label-studio/predict", json={"tasks": tasks, "project": "7.1", "label_config": "<View/>", "params": params})


def drawn(x=10.0, *, label="ship", side=64):
    value = {"x": x, "y": 10, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": [label]}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "image_rotation": 0}
    return {**region, "original_width": side, "original_height": side, "value": value}


@pytest.mark.guarantee("G35")
@pytest.mark.guarantee("G21")
@pytest.mark.parametrize("proof", BAD_PROOFS)
@pytest.mark.parametrize(("method", "name"), EVERY_ROUTE)
def test_without_the_right_user_and_secret_nothing_is_answered_and_nothing_happens(client, jobs, answers, method, name, proof):
    client.auth = None
    body = {"tasks": [], "action": "START_TRAINING", "project": {"id": 7}}
    headers = {} if proof is None else {"Authorization": proof}
    answer = client.request(method, f"/label-studio/{name}", json=body if method == "POST" else None, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")
    assert (jobs.asked, answers.asked, answers.drawn) == (0, [], [])


def test_health_and_versions(client):
    assert client.get("/label-studio/health").json()["status"] == "UP"
    assert client.get("/label-studio/versions").json() == {"versions": ["of-other-classes", "detector"]}


def test_setup_names_the_newest_detector_of_the_workspaces_classes(client):
    schema = label_config(LabelSet.of(["car", "ship"]))
    answer = client.post("/label-studio/setup", json={"project": "7.1", "schema": schema, "access_token": "CANARY", "extra_params": None})
    assert (answer.status_code, answer.json()) == (200, {"model_version": "detector"})


def test_a_project_of_other_classes_is_refused_with_the_difference(client):
    answer = client.post("/label-studio/setup", json={"schema": label_config(LabelSet.of(["car", "boat"]))})
    assert answer.status_code == 409
    assert "lacks the classes ['ship']" in answer.text


@pytest.mark.guarantee("G39")
def test_label_studios_own_token_is_neither_kept_nor_logged(client, workspace, caplog):
    caplog.set_level("DEBUG")
    for schema in (label_config(LabelSet.of(["car", "ship"])), "<View/>", None):
        client.post("/label-studio/setup", json={"schema": schema, "access_token": "CANARY"})
    assert "CANARY" not in caplog.text
    assert not any(b"CANARY" in path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())


def test_tasks_get_one_result_each_in_their_order_and_only_ours_have_boxes(client, workspace, answers, tile_ids):
    keys = [f"{workspace.key}:{tile_ids[1]}", "another:1", f"{workspace.key}:{tile_ids[0]}", None, f"{workspace.key}:987654"]
    answer = predict(client, [task(key, number) for number, key in enumerate(keys)])
    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [len(result["result"]) for result in results] == [1, 0, 1, 0, 0]
    assert {result["model_version"] for result in results} == {"detector"}
    assert sorted(tile for turn in answers.asked for tile in turn) == sorted(tile_ids[:2])
    back = read_boxes(results[0]["result"], 64, 64, LabelSet.of(["car", "ship"]))
    assert np.allclose(back.boxes_tile.xyxy, SHOWN.xyxy)


def test_what_is_drawn_is_asked_for_on_its_tile_and_comes_back_with_its_look_alikes(client, workspace, answers, tile_ids):
    answer = predict(client, [task(f"{workspace.key}:{tile_ids[2]}")], context={"result": [drawn()]})
    [(tile, boxes)] = answers.drawn
    assert (tile, boxes.labels.tolist()) == (tile_ids[2], [1])
    assert np.allclose(boxes.xyxy, [[6.4, 6.4, 19.2, 25.6]])
    [result] = answer.json()["results"]
    assert [region["value"]["rectanglelabels"] for region in result["result"]] == [["ship"], ["ship"]]
    assert result["result"][0]["value"]["x"] == pytest.approx(10)
    assert answers.asked == []


@pytest.mark.parametrize("regions", [[], [drawn(side=32)], [drawn(label="boat")], [{"type": "keypointlabels"}], [None]])
def test_what_cannot_be_asked_for_has_an_empty_answer(client, workspace, answers, tile_ids, regions):
    answer = predict(client, [task(f"{workspace.key}:{tile_ids[0]}")], context={"result": regions})
    assert (answer.status_code, answer.json()["results"][0]["result"]) == (200, [])
    assert answers.drawn == []


def test_nobody_elses_tile_is_looked_at_by_drawing_on_it(client, answers):
    assert predict(client, [task("another:1")], context={"result": [drawn()]}).json()["results"] == [
        {"result": [], "model_version": "detector"}
    ]
    assert answers.drawn == []


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"tasks": 3}'])
def test_what_is_no_question_is_refused(client, body):
    assert client.post("/label-studio/predict", content=body).status_code == 400


def test_too_many_tasks_at_once_are_refused(client):
    assert predict(client, [task("a:1")] * 1001).status_code == 413


@pytest.mark.parametrize(("name", "most"), [("predict", 8 << 20), ("setup", 1_000_000), ("webhook", 1_000_000)])
def test_endless_bodies_are_cut_off(client, jobs, name, most):
    answer = client.post(f"/label-studio/{name}", content=iter([b"x" * 100_000] * (most // 100_000 + 2)))
    assert (answer.status_code, f"{most} bytes" in answer.text) == (413, True)
    assert jobs.asked == 0


@pytest.mark.guarantee("G39")
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (CheckpointRefused("/secret/path/model is damaged"), 503),
        (UnreadableImage("/secret/path.tif"), 503),
        (RuntimeError("/secret/x"), 500),
    ],
)
def test_faults_do_not_tell_of_this_machine(client, workspace, answers, tile_ids, fault, status):
    answers.fault = fault
    for params in ({}, {"context": {"result": [drawn()]}}):
        answer = predict(client, [task(f"{workspace.key}:{tile_ids[0]}")], **params)
        assert answer.status_code == status
        assert "secret" not in answer.text


def webhook(client, action, project=7):
    return client.post("/label-studio/webhook", content=json.dumps({"action": action, "project": {"id": project}}))


def queued(jobs):
    return [(job.verb, job.config) for job in jobs.queued]


def test_a_training_is_queued_once_however_often_it_is_asked_for(client, jobs):
    for _ in range(20):
        assert webhook(client, "START_TRAINING").status_code == 200
    assert queued(jobs) == [("retrain", {})]
    jobs.queued[0].begun = True
    webhook(client, "START_TRAINING")
    assert queued(jobs) == [("retrain", {}), ("retrain", {})]


@pytest.mark.guarantee("G21")
@pytest.mark.parametrize("project", [8, "7", None, -1])
def test_a_training_for_a_project_that_is_not_ours_changes_nothing(client, jobs, project):
    assert webhook(client, "START_TRAINING", project).status_code == 403
    assert queued(jobs) == []


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "PROJECT_UPDATED", "", None])
def test_every_other_action_only_nudges_a_pull(client, jobs, action):
    assert webhook(client, action).status_code == 200
    assert queued(jobs) == [("pull", {})]
