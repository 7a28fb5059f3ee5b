"""Maps of seconds over the scenes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from app.routes import spending as route
from app.tile_pictures import TilePictures
from engine.catalog.rounds import ChosenTile, add_round, round_tiles
from engine.catalog.schema import Scene
from engine.catalog.tiles import scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.stages.ingest import IngestConfig, ingest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def workspace(tmp_path, write_picture):
    write_picture(tmp_path / "imagery" / "a.png", width=96, height=64)
    with Workspace.create(tmp_path / "workspace") as made:
        ingest(made, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        with made.session() as session:
            known = tiles(session)
            first = add_round(session, budget_seconds=60, strategy="tilehawk", seed=0, chosen=[ChosenTile(known[0].id, 1.0, 30.0, {})])
            round_tiles(session, first)[0].measured_seconds = 30.0
            add_round(session, budget_seconds=60, strategy="tilehawk", seed=0, chosen=[ChosenTile(known[1].id, 1.0, 30.0, {})])
        yield made


@pytest.fixture
def client(workspace):
    from starlette.testclient import TestClient

    pictures = TilePictures(workspace)
    app = FastAPI()
    app.include_router(route.router(workspace, pictures))
    yield TestClient(app)
    pictures.close()


def drawn(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def colour_at(picture, window):
    return picture[window.y + window.height // 2, window.x + window.width // 2]


def test_what_was_spent_and_what_is_planned_lie_on_their_tiles(client, workspace):
    with workspace.session(write=False) as session:
        spent, planned, *_ = tiles(session)
    picture = drawn(client.get(f"/spending/{spent.scene_id}.png"))
    assert picture.shape == (64, 96, 3)
    red, blue = colour_at(picture, spent.window), colour_at(picture, planned.window)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    looked_at = drawn(client.get(f"/spending/{spent.scene_id}.png?round=2"))
    assert np.ptp(colour_at(looked_at, spent.window)) < np.ptp(red)
    assert np.array_equal(colour_at(looked_at, planned.window), blue)


def test_a_map_is_sent_once(client):
    answer = client.get("/spending/1.png")
    again = client.get("/spending/1.png", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_scene_that_is_gone_is_plain_ground(client, workspace):
    with workspace.session(write=False) as session:
        scene_file(workspace, session.get_one(Scene, 1)).unlink()
    assert drawn(client.get("/spending/1.png")).shape == (64, 96, 3)


@pytest.mark.parametrize(("path", "code"), [("2.png", 404), ("0.png", 422), ("1.png?round=0", 422), ("..%2Fa.png", 404), ("x.png", 422)])
def test_anything_else_is_not_there(client, path, code):
    assert client.get(f"/spending/{path}").status_code == code
