"""Without a session nothing is there but the door: every route, those of the mounted pages too."""

from __future__ import annotations

import pytest
from starlette.routing import Mount

from app.accounts import Accounts, Passwords
from app.settings import Settings
from engine.catalog.workspace import Workspace

pytestmark = [
    pytest.mark.guarantee("G35"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:gradio"),
]

ANSWERED_WITHOUT_SESSION = {
    ("GET", "/health"): 200,
    ("GET", "/login"): 200,
    ("POST", "/login"): 401,
    ("GET", "/signed/tiles/1.png"): 403,
    ("POST", "/webhooks/label-studio"): 401,
    ("GET", "/label-studio/health"): 401,
    ("GET", "/label-studio/versions"): 401,
    ("POST", "/label-studio/predict"): 401,
    ("POST", "/label-studio/setup"): 401,
    ("POST", "/label-studio/webhook"): 401,
}
"""The open kinds, and what they answer to somebody who proves nothing; every other route is refused by the guard."""


@pytest.fixture(scope="module")
def application(tmp_path_factory, fake):
    with Workspace.create(tmp_path_factory.mktemp("closed") / "workspace") as workspace:
        Accounts(workspace, Passwords(cost=2**4)).add("anna", "correct horse")
        web = fake("web")
        settings = Settings(public_url=web.ELSEWHERE)
        yield web.application(workspace, fake("jobs").FakeJobs(), fake("pages").build, settings=settings, host="0.0.0.0")


@pytest.fixture
def stranger(application, fake):
    web = fake("web")
    return web.client(application, address=web.ELSEWHERE, machine="203.0.113.9")


@pytest.fixture
def anna(application, fake):
    web = fake("web")
    client = web.client(application, address=web.ELSEWHERE, machine="203.0.113.10")
    assert client.post("/login", data={"name": "anna", "password": "correct horse"}).status_code == 303
    return client


def test_every_route_but_the_open_kinds_is_refused(application, stranger, fake):
    found = set(fake("web").every_route(application.routes))
    assert set(ANSWERED_WITHOUT_SESSION) <= found
    assert len([path for _, path in found if path.startswith("/gradio_api/")]) > 30, "the routes of the pages are among them"
    for method, path in sorted(found):
        answer = stranger.request(method, path, headers={"accept": "application/json"})
        assert answer.status_code == ANSWERED_WITHOUT_SESSION.get((method, path), 401), (method, path)


def test_people_are_shown_the_door(application, stranger, fake):
    for method, path in sorted(fake("web").every_route(application.routes)):
        if method == "GET" and (method, path) not in ANSWERED_WITHOUT_SESSION:
            answer = stranger.get(path, headers={"accept": "text/html"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path


@pytest.mark.parametrize(
    "path", ["/health/../tiles/1.png", "//tiles/1.png", "/health%2f..%2fconfig", "/signed/tiles/1.png/../../../config"]
)
def test_no_path_leads_around_the_guard(stranger, path):
    assert stranger.get(path).status_code in {401, 403, 404}


def test_with_a_session_the_pages_know_who_it_is(anna):
    assert anna.get("/", headers={"accept": "text/html"}).status_code == 200
    assert anna.get("/config").json()["username"] == "anna"
    assert anna.get("/tiles/1.png").status_code == 404


def test_gradio_asks_by_itself_too(application, fake):
    """Its own routes want a user, should anything ever come to them past the guard."""
    from starlette.testclient import TestClient

    pages = next(route.app for route in application.routes if isinstance(route, Mount))
    for path in ("/config", "/gradio_api/queue/data", "/gradio_api/file=/x", "/gradio_api/info"):
        assert TestClient(pages).get(path).status_code == 401, path


def test_door_is_not_opened_from_another_page(stranger):
    answer = stranger.post("/login", data={"name": "anna", "password": "correct horse"}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_body_at_the_door_is_bounded(stranger):
    assert stranger.post("/login", data={"name": "anna", "password": "x" * 100_000}).status_code == 413
