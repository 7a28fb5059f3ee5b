"""Scripts and styles of our own pages: so many, by name."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fastapi import FastAPI

from app.routes import web as route

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def client():
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(route.router())
    return TestClient(app)


@pytest.mark.parametrize("name", [*route.OWN, *(f"leaflet/{name}" for name in route.LEAFLET)])
def test_parts_are_there_and_sent_once(client, name):
    answer = client.get(f"/web/{name}")
    assert answer.status_code == 200
    assert (
        answer.headers["content-type"].split(";")[0]
        == {"js": "text/javascript", "css": "text/css", "png": "image/png"}[name[-3:].strip(".")]
    )
    assert client.get(f"/web/{name}", headers={"if-none-match": answer.headers["etag"]}).status_code == 304


@pytest.mark.guarantee("G36")
@pytest.mark.parametrize(
    "name",
    [
        "",
        "leaflet",
        "leaflet/",
        "leaflet/leaflet-src.js",
        "leaflet/../../__init__.py",
        "../server.py",
        "..%2fserver.py",
        "leaflet//leaflet.js",
        quote("../../secret.key", safe=""),
        "uploads.js/",
        "UPLOADS.JS",
        "%2e%2e/routes/web.py",
        "leaflet/images/marker-icon.png",
        "/etc/passwd",
    ],
)
def test_nothing_else_is(client, name):
    assert client.get(f"/web/{name}").status_code == 404


def test_leaflet_is_the_version_that_was_tried(client):
    assert "Leaflet 1.9.4" in client.get("/web/leaflet/leaflet.js").text[:200]
