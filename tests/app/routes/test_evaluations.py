"""Pictures of evaluations, by id: what is on the list, and nothing else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fastapi import FastAPI

from app.routes import evaluations as route
from engine.catalog.evaluations import evaluation_pictures
from engine.catalog.models import add_model
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        with made.session() as session:
            for name, metrics in (("measured", {"test": {"ap": 0.5, "predictions": "seen"}}), ("before", {"test": {"ap": 0.5}})):
                add_model(session, name=name, stage="finetune", config={}, data_hash="0" * 64, metrics=metrics)
        folder = evaluation_pictures(made, "seen", "test")
        folder.mkdir(parents=True)
        (folder / "confusion.png").write_bytes(b"\x89PNG picture")
        (folder / "secret.txt").write_bytes(b"words")
        yield made


@pytest.fixture
def client(workspace):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(route.router(workspace))
    return TestClient(app)


def test_a_picture_is_the_browser_s_own_and_sent_once(client):
    answer = client.get("/evaluations/1/test/confusion.png?drawn=1")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG picture", "image/png")
    assert answer.headers["cache-control"].startswith("private")
    again = client.get("/evaluations/1/test/confusion.png", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "1/dev/confusion.png",
        "2/test/confusion.png",
        "3/test/confusion.png",
        "0/test/confusion.png",
        "x/test/confusion.png",
        "1/none/confusion.png",
        "1/test/calibration.png",
        "1/test/secret.txt.png",
        "1/test/secret.txt",
        f"1/test/{quote('../../../catalog', safe='')}.png",
        f"1/{quote('../test', safe='')}/confusion.png",
    ],
)
def test_anything_that_is_not_there_is_not_found(client, path):
    assert client.get(f"/evaluations/{path}").status_code in {404, 422}


def test_a_picture_that_goes_away_meanwhile_is_not_found(client, workspace):
    (evaluation_pictures(workspace, "seen", "test") / "confusion.png").unlink()
    assert client.get("/evaluations/1/test/confusion.png").status_code == 404
