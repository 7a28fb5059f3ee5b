"""No page elsewhere makes a browser do anything here, under no name."""

from __future__ import annotations

import pytest

from app.accounts import Accounts, Passwords
from app.security import SESSION_COOKIE
from app.settings import Settings
from engine.catalog.workspace import Workspace

pytestmark = [
    pytest.mark.guarantee("G38"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:gradio"),
]

READING = {"GET", "HEAD", "OPTIONS"}
EVIL = "https://evil.example"
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    with Workspace.create(tmp_path_factory.mktemp("origins") / "workspace") as made:
        Accounts(made, Passwords(cost=2**4)).add("anna", PASSWORD, "engineer")
        yield made


@pytest.fixture(scope="module")
def local(workspace, fake):
    """The app for this machine alone, where no cookie stands between a page elsewhere and it."""
    return fake("web").application(workspace, fake("jobs").FakeJobs(), fake("pages").build)


@pytest.fixture(scope="module")
def public(workspace, fake):
    web = fake("web")
    return web.application(
        workspace, fake("jobs").FakeJobs(), fake("pages").build, settings=Settings(public_url=web.ELSEWHERE), host="0.0.0.0"
    )


def changing(routes, fake):
    found = sorted({each for each in fake("web").every_route(routes) if each[0] not in READING})
    assert len(found) > 15
    return found


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:7861", "http://localhost.evil.example", "file://"])
def test_no_route_that_changes_something_listens_to_another_page(local, fake, origin):
    client = fake("web").client(local)
    for method, path in changing(local.routes, fake):
        answer = client.request(method, path, headers={"origin": origin})
        assert answer.status_code in {401, 403}, (method, path, answer.status_code)
        assert answer.headers.get("access-control-allow-origin") not in {"*", origin}, path
        if answer.status_code == 401:
            assert path.startswith(("/webhooks/", "/label-studio/")), f"{path} is asked by a server, which proves itself otherwise"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "tiles.example.org.evil.example:7860", "", "0.0.0.0:7860"])
def test_no_route_answers_under_a_name_that_is_not_ours(local, fake, host):
    """DNS rebinding: a page elsewhere whose name leads to 127.0.0.1 is told by the name that the browser says."""
    client = fake("web").client(local)
    for method, path in sorted(set(fake("web").every_route(local.routes))):
        assert client.request(method, path, headers={"host": host}).status_code == 403, (method, path)


def test_other_page_with_the_visitor_s_cookie_is_refused_too(public, fake):
    web = fake("web")
    client = web.client(public, address=web.ELSEWHERE, machine="203.0.113.10")
    assert client.post("/login", data={"name": "anna", "password": PASSWORD}).status_code == 303
    for method, path in changing(public.routes, fake):
        answer = client.request(method, path, headers={"origin": EVIL})
        assert answer.status_code in {401, 403}, (method, path)
    assert client.get("/config").status_code == 200, "the session is still there"


def test_cookie_is_sent_by_our_own_pages_alone_and_no_script_reads_it(public, fake):
    web = fake("web")
    answer = web.client(public, address=web.ELSEWHERE, machine="203.0.113.11").post("/login", data={"name": "anna", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(SESSION_COOKIE)
    for part in ("samesite=strict", "httponly", "secure", "path=/"):
        assert part in cookie


def test_other_page_reads_nothing(local, fake):
    client = fake("web").client(local)
    for path in ("/config", "/gradio_api/info", "/health", "/gradio_api/queue/data?session_hash=x"):
        answer = client.get(path, headers={"origin": EVIL})
        assert answer.status_code == 403, path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
