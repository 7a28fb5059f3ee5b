"""The server: own routes, the mounted page, and the guard before both."""

from __future__ import annotations

import asyncio
import io
import socket
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import UsageError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:gradio"),
]


def build(workspace):
    """The application, made inside an event loop: without one Gradio opens one of its own and never closes it."""
    from app.server import create_app

    async def make():
        return create_app(workspace)

    return asyncio.run(make())


@pytest.fixture(scope="module")
def application(filled_workspace):
    return build(filled_workspace)


@pytest.fixture
def client(application):
    from starlette.testclient import TestClient

    return TestClient(application, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 5000))


def test_health(client):
    assert client.get("/health").json() == {"status": "ok"}


def test_tile_is_the_pixels_of_its_window(client, filled_workspace):
    with filled_workspace.session(write=False) as session:
        tile = tiles(session)[3]
    answer = client.get(f"/tiles/{tile.id}.png")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    source = next(path for path in filled_workspace.root.parents[1].rglob(tile.scene_name) if path.is_file())
    window = tile.window
    expected = np.asarray(Image.open(source))[window.y : window.y + window.height, window.x : window.x + window.width]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected)


@pytest.mark.parametrize("name", ["0", "999999", "-1", "x", quote("../../catalog.sqlite", safe=""), "99999999999999999999999"])
def test_anything_but_a_tile_of_the_catalog_is_not_found(client, name):
    assert client.get(f"/tiles/{name}.png").status_code in {404, 422}


def test_curve_is_a_picture_once_a_round_is_evaluated(client):
    assert Image.open(io.BytesIO(client.get("/curve.png").content)).format == "PNG"


def test_curve_of_a_new_workspace_is_not_found(tmp_path):
    from starlette.testclient import TestClient

    with Workspace.create(tmp_path / "new") as workspace:
        client = TestClient(build(workspace), base_url="http://localhost", client=("127.0.0.1", 5000))
        assert client.get("/curve.png").status_code == 404
        assert client.get("/").status_code == 200


def test_every_route_refuses_another_host_and_another_machine(application):
    from starlette.testclient import TestClient

    elsewhere = TestClient(application, base_url="http://127.0.0.1", client=("192.168.1.9", 5000))
    renamed = TestClient(application, base_url="http://evil.example", client=("127.0.0.1", 5000))
    own = application.openapi()["paths"]
    assert {"/health", "/tiles/{tile_id}.png", "/curve.png"} <= set(own)
    for path in [*own, "/", "/gradio_api/info", "/config"]:
        concrete = path.replace("{tile_id}", "1")
        assert elsewhere.get(concrete).status_code == 403, path
        assert renamed.get(concrete).status_code == 403, path


def test_taken_port_is_wrong_use_and_named(filled_workspace):
    from app.server import serve

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match=str(other.getsockname()[1])):
            serve(filled_workspace, port=other.getsockname()[1])
