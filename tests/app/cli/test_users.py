"""tilehawk users: accounts from a terminal or a pipe."""

from __future__ import annotations

import io

import pytest

from app.accounts import Accounts, Passwords
from engine.catalog.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


def piped(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def typed_in(monkeypatch, *answers):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    left = list(answers)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: left.pop(0))


def test_account_is_made_from_a_pipe_given_a_new_password_listed_and_removed(tilehawk, workspace, monkeypatch):
    accounts = Accounts(workspace, Passwords(cost=2**4))
    for word, new in (("correct horse", True), ("battery staple", False)):
        piped(monkeypatch, f"{word}\r\n")
        typed = tilehawk("users", "add", "anna", "--workspace", workspace.root, "--json")
        assert (typed.code, typed.document) == (0, {"user": "anna", "role": "engineer", "new": new})
        assert accounts.check("anna", word)
        assert word not in typed.out + typed.err
    assert not accounts.check("anna", "correct horse")
    assert tilehawk("users", "list", "--workspace", workspace.root, "--json").document == {"users": [{"name": "anna", "role": "engineer"}]}
    assert tilehawk("users", "remove", "anna", "--workspace", workspace.root).code == 0
    assert accounts.names() == []


def test_password_is_asked_for_twice(tilehawk, workspace, monkeypatch):
    typed_in(monkeypatch, "correct horse", "correct hose")
    typed = tilehawk("users", "add", "anna", "--workspace", workspace.root)
    assert typed.code == 3
    assert "two different passwords" in typed.err
    typed_in(monkeypatch, "correct horse", "correct horse")
    assert tilehawk("users", "add", "anna", "--workspace", workspace.root).code == 0


@pytest.mark.parametrize(("name", "password"), [("anna", ""), ("anna", "short"), ("an na", "correct horse")])
def test_impossible_account_is_bad_input(tilehawk, workspace, monkeypatch, name, password):
    piped(monkeypatch, f"{password}\n")
    typed = tilehawk("users", "add", name, "--workspace", workspace.root)
    assert typed.code == 3
    assert not password or password not in typed.err


def test_unknown_account_is_named(tilehawk, workspace):
    typed = tilehawk("users", "remove", "berta", "--workspace", workspace.root)
    assert (typed.code, "'berta'" in typed.err) == (3, True)


def test_app_that_others_can_reach_wants_an_account(tilehawk, workspace):
    typed = tilehawk("app", "--host", "0.0.0.0", "--workspace", workspace.root)
    assert typed.code == 2
    assert "tilehawk users add NAME" in typed.err
    assert tilehawk("app", "--public-url", "nonsense", "--workspace", workspace.root).code == 2


def test_role_is_given_kept_and_changed(tilehawk, workspace, monkeypatch):
    def add(*options):
        piped(monkeypatch, "correct horse\n")
        return tilehawk("users", "add", "anna", *options, "--workspace", workspace.root, "--json").document

    assert add("--role", "annotator") == {"user": "anna", "role": "annotator", "new": True}
    assert add() == {"user": "anna", "role": "annotator", "new": False}
    typed = tilehawk("users", "role", "anna", "manager", "--workspace", workspace.root, "--json")
    assert (typed.code, typed.document) == (0, {"user": "anna", "role": "manager"})
    assert "anna  manager" in tilehawk("users", "list", "--workspace", workspace.root).out
    assert tilehawk("users", "role", "berta", "manager", "--workspace", workspace.root).code == 3
    typed = tilehawk("users", "role", "anna", "king", "--workspace", workspace.root)
    assert (typed.code, "annotator" in typed.err) == (2, True)
