"""Connections: tried before they are stored, read by their owner alone, and in no message."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import run
from app.connections import CONNECTIONS_FILE, Connections, connect_label_studio
from app.wiring import annotation_server
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, TilehawkError


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture
def studio(fake) -> Iterator[Any]:
    with fake("label_studio_server").serving() as serving:
        serving.token = fake("label_studio_server").TOKEN
        yield serving


def test_a_connection_is_stored_for_its_owner_alone_and_read_again(workspace, studio):
    made = connect_label_studio(workspace, f"{studio.url}/", studio.token, public_url="https://tiles.example.org")
    assert (made.server, made.user, made.public_url) == (studio.url, "ada@example.com", "https://tiles.example.org")
    assert (workspace.root / CONNECTIONS_FILE).stat().st_mode & 0o777 == 0o600
    found = Connections.load(workspace)
    assert found.label_studio is not None
    assert found.label_studio.token.get_secret_value() == studio.token
    assert studio.token not in repr(found) + str(found) + found.model_dump_json()
    assert annotation_server(workspace).who() == "ada@example.com"


@pytest.mark.parametrize("token", ["f" * 40, "", "two words", "größe", "line\nbreak"])
def test_what_does_not_work_is_not_stored_and_the_old_connection_stays(workspace, studio, token):
    connect_label_studio(workspace, studio.url, studio.token)
    before = (workspace.root / CONNECTIONS_FILE).read_bytes()
    with pytest.raises(BadInput, match="token") as refusal:
        connect_label_studio(workspace, studio.url, token)
    assert not token or token not in str(refusal.value)
    assert (workspace.root / CONNECTIONS_FILE).read_bytes() == before


def test_without_a_connection_it_says_what_to_type(workspace):
    assert Connections.load(workspace) == Connections()
    with pytest.raises(BadInput, match="tilehawk connect label-studio"):
        annotation_server(workspace)


@pytest.mark.parametrize("content", [b"", b"{", b'{"label_studio": {"url": "x", "tokn": "CANARY"}}', b'{"x": "CANARY"}', b"\xff"])
def test_a_damaged_file_is_refused_without_showing_it(workspace, content):
    (workspace.root / CONNECTIONS_FILE).write_bytes(content)
    with pytest.raises(TilehawkError, match="cannot be read") as refusal:
        Connections.load(workspace)
    assert "CANARY" not in str(refusal.value)


def test_the_token_comes_on_standard_input_and_appears_nowhere(workspace, studio, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{studio.token}\n"))
    place = ["--workspace", str(workspace.root), "--json"]
    assert run(["connect", "label-studio", studio.url, "--token-stdin", *place]) == 0
    said = capfd.readouterr()
    about = json.loads(said.out)
    assert (about["server"], about["user"], about["public_url"]) == (studio.url, "ada@example.com", "http://127.0.0.1:7860")
    assert (about["backend"], about["backend_user"]) == ("http://127.0.0.1:7860/label-studio", "tilehawk")
    assert studio.token not in said.out + said.err
    holding = [path.name for path in workspace.root.rglob("*") if path.is_file() and studio.token.encode() in path.read_bytes()]
    assert holding == [CONNECTIONS_FILE]


def test_no_token_is_a_wrong_call(workspace, studio, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["connect", "label-studio", studio.url, "--workspace", str(workspace.root)]) == 2
    assert "--token-stdin" in capfd.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["connect", "label-studio", studio.url, "--token-stdin", "--workspace", str(workspace.root)]) == 3


def test_push_and_pull_by_command(tmp_path, studio, fake, capfd):
    with Workspace.create(tmp_path / "labelled") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        fake("labelled").predict(made, "found")
        connect_label_studio(made, studio.url, studio.token)
    place = ["--workspace", str(tmp_path / "labelled"), "--json"]
    assert run(["rank", "--budget-seconds", "1000", *place]) == 0
    capfd.readouterr()
    assert run(["push", *place]) == 0
    assert json.loads(capfd.readouterr().out)["pushed"] == len(studio.tasks) > 0
    image = next(iter(studio.tasks.values()))["data"]["image"]
    assert image.startswith("http://127.0.0.1:7860/signed/tiles/")
    assert run(["pull", *place]) == 0
    assert json.loads(capfd.readouterr().out)["waiting"] == len(studio.tasks)
