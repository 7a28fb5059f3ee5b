"""Files to take away, by names that are known."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from app.downloads import sweep_scratch
from app.routes import downloads
from app.wiring import read_labels
from connectors.formats.unpack import unpacked
from engine.catalog import ledger
from engine.catalog.annotations import set_label_set
from engine.catalog.lookup import SceneFrames
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


def client_of(workspace):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(downloads.router(workspace))
    return TestClient(app)


@pytest.fixture
def workspace(tmp_path):
    """An exported model with a layer, a folder that looks like one, and secrets."""
    with Workspace.create(tmp_path / "workspace") as made:
        for name in ("first", "unknown"):
            folder = made.exports / name
            (folder / "layers" / "1-scene").mkdir(parents=True)
            (folder / "model.onnx").write_bytes(b"network")
            (folder / "export.json").write_text("{}")
            (folder / "layers" / "1-scene" / "scene.geojson").write_text("[]")
            (folder / ".tmp-1-model.onnx").write_bytes(b"half")
            (folder / "link.json").symlink_to(made.root / "tilehawk.json")
        with made.session() as session:
            ledger.record(session, "export", model="m", export="first", parity=0.0)
            ledger.record(session, "export", model="m", export="gone", parity=0.0)
        yield made


@pytest.mark.parametrize(
    ("address", "filename", "inside"),
    [
        ("exports/first", "first.zip", {"first/model.onnx", "first/export.json"}),
        ("layers/first", "first-layers.zip", {"layers/1-scene/scene.geojson"}),
    ],
)
def test_folder_comes_as_a_zip_without_links_and_halves(workspace, address, filename, inside):
    answer = client_of(workspace).get(f"/downloads/{address}")
    assert answer.headers["content-disposition"] == f'attachment; filename="{filename}"'
    assert set(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == inside
    assert list((workspace.temporary / "downloads").iterdir()) == []


def test_network_comes_alone(workspace):
    answer = client_of(workspace).get("/downloads/exports/first.onnx")
    assert (answer.content, answer.headers["content-disposition"]) == (b"network", 'attachment; filename="first.onnx"')
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "address",
    [
        "exports/unknown",
        "exports/gone",
        "exports/",
        "exports/..",
        f"exports/{quote('../models', safe='')}",
        f"exports/{quote('first/model.onnx', safe='')}",
        f"exports/{quote('/etc/passwd', safe='')}",
        "exports/first.zip",
        "layers/unknown",
        f"layers/{quote('first/../first', safe='')}",
        "labels/secret.key",
        "labels/other.json",
        "models/first",
        "reports/x",
        f"{quote('../', safe='')}/secret.key",
        "exports/" + "x" * 300,
        "exports/%00",
    ],
)
def test_any_other_name_is_not_found(workspace, address):
    assert client_of(workspace).get(f"/downloads/{address}").status_code in {404, 422}


def test_labels_are_the_accepted_boxes_and_come_back(filled_workspace, tmp_path):
    answer = client_of(filled_workspace).get("/downloads/labels/coco.json")
    assert answer.headers["content-disposition"] == 'attachment; filename="labels.coco.json"'
    (tmp_path / "labels.json").write_bytes(answer.content)
    labels = read_labels(tmp_path / "labels.json")
    with filled_workspace.session(write=False) as session:
        from engine.catalog.annotations import label_set, scene_boxes
        from engine.catalog.schema import Scene

        assert labels.label_set == label_set(session)
        for scene in session.query(Scene):
            given = next((image.boxes_scene for image in labels.images if image.image == scene.name), None)
            accepted = scene_boxes(session, scene.id)
            assert given is None or given.xyxy.tolist() == accepted.xyxy.tolist()
            assert given is not None or not len(accepted)
    assert json.loads(answer.content)["annotations"]


@pytest.mark.parametrize(
    ("address", "filename", "inside"),
    [
        ("yolo.zip", "labels-yolo.zip", {"data.yaml", "tilehawk-labels.json"}),
        ("voc.zip", "labels-voc.zip", {"tilehawk-labels.json"}),
    ],
)
def test_labels_come_as_folders_that_can_be_read_again(filled_workspace, tmp_path, address, filename, inside):
    answer = client_of(filled_workspace).get(f"/downloads/labels/{address}")
    assert answer.headers["content-disposition"] == f'attachment; filename="{filename}"'
    (tmp_path / filename).write_bytes(answer.content)
    assert inside <= {name.removeprefix("labels/") for name in zipfile.ZipFile(tmp_path / filename).namelist()}
    labels = read_labels(tmp_path / filename, SceneFrames(filled_workspace))
    with filled_workspace.session(write=False) as session:
        accepted = session.query(Annotation).filter_by(state="accepted").count()
    assert sum(len(image.boxes_scene) for image in labels.images) == accepted > 0
    assert list((filled_workspace.temporary / "downloads").iterdir()) == []


def test_labels_come_as_layers(filled_workspace, tmp_path):
    answer = client_of(filled_workspace).get("/downloads/labels/gpkg")
    assert answer.headers["content-disposition"] == 'attachment; filename="labels.gpkg"'
    (tmp_path / "labels.gpkg").write_bytes(answer.content)
    assert len(read_labels(tmp_path / "labels.gpkg", SceneFrames(filled_workspace)).images) > 0


def test_labels_before_there_are_classes_or_boxes_are_not_found_and_say_why(workspace):
    answer = client_of(workspace).get("/downloads/labels/coco.json")
    assert (answer.status_code, "no classes" in answer.text) == (404, True)
    with workspace.session() as session:
        set_label_set(session, ["car"])
    answer = client_of(workspace).get("/downloads/labels/coco.json")
    assert (answer.status_code, "nothing is annotated" in answer.text) == (404, True)


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        temporary, moment = workspace.temporary, 1_800_000_000
        names = ["labels-a1b2", "downloads/tmpabc", "overviews/1"]
        for name in (*names, *(f"{name}-new" for name in names)):
            (temporary / name).mkdir(parents=True)
            (temporary / name / "file").write_bytes(b"x")
            age = 86400 + (-60 if name.endswith("-new") else 60)
            os.utime(temporary / name, (moment - age,) * 2)
        sweep_scratch(workspace, now=moment)
        left = {path.relative_to(temporary).as_posix() for path in (*temporary.glob("labels-*"), *temporary.glob("*/*"))}
        assert {name for name in left if not name.endswith("/file")} == {*(f"{name}-new" for name in names), "overviews/1"}


def test_labels_are_unpacked_where_the_sweep_looks(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "0")
    with Workspace.create(tmp_path / "workspace") as workspace:
        workspace.temporary.mkdir(exist_ok=True)
        with unpacked(tmp_path / "a.zip", workspace.temporary) as folder:
            sweep_scratch(workspace, now=time.time() + 2 * 86400)
            assert not folder.exists()
