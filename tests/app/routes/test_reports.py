"""Pictures of reports and simulations: what is on the list, and nothing else."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from app.routes import reports as route
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def client(tmp_path):
    from starlette.testclient import TestClient

    with Workspace.create(tmp_path / "workspace") as workspace:
        workspace.reports.mkdir(exist_ok=True)
        (workspace.reports / "forecast.png").write_bytes(b"\x89PNG forecast")
        (workspace.reports / "secret.png").write_bytes(b"secret")
        folder = workspace.reports / "simulations" / "0123abc"
        folder.mkdir(parents=True)
        (folder / "curves.png").write_bytes(b"\x89PNG curves")
        (folder / "seeds.png").write_bytes(b"\x89PNG seeds")
        app = FastAPI()
        app.include_router(route.router(workspace))
        yield TestClient(app)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("reports/forecast", b"\x89PNG forecast"),
        ("simulations/0123abc", b"\x89PNG curves"),
        ("simulations/0123abc/seeds", b"\x89PNG seeds"),
    ],
)
def test_a_picture_is_sent_once(client, path, content):
    answer = client.get(f"/{path}.png")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, content, "image/png")
    assert client.get(f"/{path}.png", headers={"if-none-match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("reports/costs", 404),
        ("reports/secret", 422),
        ("simulations/other", 404),
        ("simulations/other/seeds", 404),
        ("simulations/..%2Fsecret", 404),
    ],
)
def test_anything_else_is_not_there(client, path, code):
    assert client.get(f"/{path}.png").status_code == code
