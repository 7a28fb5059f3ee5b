"""Pictures of training runs: what is on the list, and nothing else."""

from __future__ import annotations

import io
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from PIL import Image

from app.routes import training as route
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        for name, log in (
            ("pretrain-1", "step,images_seen,loss,loss.a\n1,4,2.5,1.0\n2,8,2.0,0.5\n"),
            ("pretrain-2", "step,images_seen,loss\n"),
        ):
            folder = made.reports / "training" / name
            (folder / "pictures").mkdir(parents=True)
            (folder / "log.csv").write_text(log)
        (made.reports / "training" / "pretrain-1" / "pictures" / "encoder-00000600.png").write_bytes(b"\x89PNG picture")
        (made.reports / "training" / "secret.png").write_bytes(b"secret")
        yield made


@pytest.fixture
def client(workspace):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(route.router(workspace))
    return TestClient(app)


def test_a_stored_picture_is_sent_once(client):
    answer = client.get("/training/pretrain-1/encoder-00000600.png")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG picture", "image/png")
    again = client.get("/training/pretrain-1/encoder-00000600.png", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_curves_are_drawn_from_the_log(client):
    answer = client.get("/training/pretrain-1/curves.png?seen=8")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height


def test_curves_of_another_run_are_drawn_beside_them_where_there_is_one(client, workspace):
    (workspace.reports / "training" / "pretrain-2" / "log.csv").write_text("step,images_seen,loss\n1,4,9.5\n2,8,1.0\n")
    alone, both, neither = (
        client.get(f"/training/pretrain-1/curves.png{asked}").content for asked in ("", "?beside=pretrain-2", "?beside=x")
    )
    assert alone == neither != both


@pytest.mark.parametrize(
    "path",
    [
        "pretrain-2/curves.png",
        "pretrain-3/curves.png",
        "pretrain-1/patches-00000600.png",
        f"pretrain-1/{quote('../../secret', safe='')}.png",
        f"{quote('..', safe='')}/curves.png",
    ],
)
def test_anything_that_is_not_there_is_not_found(client, path):
    assert client.get(f"/training/{path}").status_code in {404, 422}
