"""Logging in and out."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from app.accounts import SESSION_SECONDS, Accounts, Attempts, Passwords, Sessions
from app.routes import login
from app.security import Access
from app.signing import Signer
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client
PASSWORD = "correct horse"


@pytest.fixture
def known(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        accounts = Accounts(workspace, Passwords(cost=2**4))
        accounts.add("anna", PASSWORD)
        yield accounts, Sessions(accounts, Signer.of(workspace))


def client_of(known, *, secure=False, access=None, attempts=None):
    from starlette.testclient import TestClient

    app = FastAPI()
    access = access or Access(login=True)
    app.include_router(login.router(*known, access, secure=secure, attempts=attempts))
    return TestClient(app, follow_redirects=False)


def enter(client, name="anna", password=PASSWORD):
    return client.post("/login", data={"name": name, "password": password})


@pytest.mark.parametrize("secure", [False, True])
def test_right_password_opens_a_session_that_no_script_and_no_other_site_can_use(known, secure):
    answer = enter(client_of(known, secure=secure))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    name, _, value = answer.headers["set-cookie"].partition("=")
    _, *attributes = [part.strip().lower() for part in value.split(";")]
    assert name == "tilehawk_session"
    assert {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"} <= set(attributes)
    assert ("secure" in attributes) is secure
    assert known[1].user(answer.cookies["tilehawk_session"] if not secure else value.split(";")[0]) == "anna"


@pytest.mark.parametrize(("name", "password"), [("anna", "wrong"), ("berta", PASSWORD), ("", ""), ("anna", "x" * 60_000)])
def test_anything_else_opens_none_and_says_so_alike(known, name, password):
    answer = enter(client_of(known), name, password)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "That name and password do not go together." in answer.text


def test_form_is_shown_where_a_login_is_needed_and_else_the_pages(known):
    assert 'action="/login"' in client_of(known).get("/login").text
    assert client_of(known, access=Access(login=False)).get("/login").headers["location"] == "/"


def test_attempts_are_bounded_even_for_the_right_password(known):
    client = client_of(known, attempts=Attempts(3, 60.0, clock=lambda: 0.0))
    for _ in range(3):
        assert enter(client, password="wrong").status_code == 401
    refused = enter(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")


def test_logging_out_needs_a_press_and_takes_the_cookie_back(known):
    client = client_of(known)
    enter(client)
    asked = client.get("/logout")
    assert asked.status_code == 200
    assert "set-cookie" not in asked.headers
    answer = client.post("/logout")
    assert answer.headers["location"] == "/login"
    assert 'tilehawk_session=""' in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]
