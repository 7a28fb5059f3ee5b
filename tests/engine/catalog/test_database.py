"""Which database a workspace is on, as far as no server is needed to say."""

import json
import os
import socket
import time

import pytest

from engine.catalog.advisory import _note, _read_note, key_of
from engine.catalog.postgres import PostgresDatabase, address
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

VARIABLE = "TILEHAWK_DATABASE_URL"
CANARY = "CANARY-password"
MARKER = {"format": 1, "catalog": "postgresql", "workspace": "0123456789abcdef" * 2, "schema": "tilehawk_0123456789ab"}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_address_may_leave_the_driver_out(scheme):
    url = address(f"{scheme}://somebody:secret@db.example:5433/imagery")
    assert url.render_as_string(hide_password=False) == "postgresql+psycopg://somebody:secret@db.example:5433/imagery"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (CANARY, "no address"),
        (f"postgresql://user:{CANARY}@host:port/db", "no address"),
        (f"mysql://user:{CANARY}@host/db", "another kind"),
        (f"sqlite:///{CANARY}", "another kind"),
        (f"postgresql+asyncpg://user:{CANARY}@host/db", "another kind"),
        (f"{CANARY}://user@host/db", "no address|another kind"),
        (f"postgresql://user:{CANARY}@host", "no database"),
        (f"postgresql://user@host/db?password={CANARY}", "as a parameter"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_never_repeated(given, found):
    with pytest.raises(BadInput, match=found) as refused:
        address(given)
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.fixture
def marked(tmp_path):
    (tmp_path / "tilehawk.json").write_text(json.dumps(MARKER))
    return tmp_path


@pytest.mark.parametrize("verb", [Workspace.open, Workspace.create])
def test_a_workspace_on_a_server_is_not_opened_without_its_address(marked, verb, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(BadInput, match=rf"{VARIABLE} is not set.*Set {VARIABLE}"):
        verb(marked)
    assert not (marked / "catalog.sqlite").exists()


@pytest.mark.parametrize(
    "damage",
    [{"catalog": "oracle"}, {"workspace": ""}, {"workspace": None}, {"schema": "public"}, {"schema": 'tilehawk_0123456789ab"; DROP'}],
)
def test_a_marker_that_names_no_known_catalog_is_refused(marked, damage, monkeypatch):
    monkeypatch.setenv(VARIABLE, "postgresql://user@127.0.0.1:1/db")
    (marked / "tilehawk.json").write_text(json.dumps({**MARKER, **damage}))
    with pytest.raises(BadInput, match=r"tilehawk\.json names no catalog"):
        Workspace.open(marked)


@pytest.mark.parametrize("verb", [Workspace.open, Workspace.create])
def test_a_server_that_does_not_answer_is_named_without_the_password(marked, verb, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv(VARIABLE, f"postgresql://user:{CANARY}@127.0.0.1:{nobody.getsockname()[1]}/imagery")
        with pytest.raises(BadInput, match=r"imagery on 127\.0\.0\.1 cannot be reached.*refused") as refused:
            verb(marked)
    assert CANARY not in str(refused.value)


def test_a_new_workspace_is_not_begun_where_the_server_does_not_answer(tmp_path, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv(VARIABLE, f"postgresql://user@127.0.0.1:{nobody.getsockname()[1]}/imagery")
        with pytest.raises(BadInput, match="cannot be reached"):
            Workspace.create(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_workspace_in_files_stays_there_whatever_the_environment_says(sqlite_workspace, monkeypatch):
    before = (sqlite_workspace.root / "tilehawk.json").read_bytes()
    monkeypatch.setenv(VARIABLE, "postgresql://user@127.0.0.1:1/db")
    Workspace.open(sqlite_workspace.root).close()
    with pytest.raises(BadInput, match=rf"is SQLite, and {VARIABLE} is set"):
        Workspace.create(sqlite_workspace.root)
    assert (sqlite_workspace.root / "tilehawk.json").read_bytes() == before


def test_an_empty_variable_names_no_database(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    with Workspace.create(tmp_path / "new") as made:
        assert (made.root / "catalog.sqlite").is_file()
        assert made.jobs_url == f"sqlite:///{made.root / 'jobs.sqlite'}"


def test_nothing_that_describes_the_database_shows_the_password(marked):
    database = PostgresDatabase.of(marked, MARKER, f"postgresql://user:{CANARY}@127.0.0.1:1/imagery")
    assert CANARY not in f"{database!r} {database.writing!r} {database.reading.url} {database.writing.pool!r}"
    assert CANARY in database.jobs_url, "the job store needs it"
    assert database.jobs_schema == "tilehawk_0123456789ab_jobs"


def test_keys_of_locks_are_stable_and_apart():
    assert key_of("a", "worker") == key_of("a", "worker")
    keys = {key_of(workspace, name) for workspace in ("a", "b", "ab", "") for name in ("worker", "app", "bworker")}
    assert len(keys) == 12
    assert all(-(2**63) <= key < 2**63 for key in keys)


@pytest.mark.parametrize("purpose", ["worker", "labels import", "the app at http://127.0.0.1:7860"])
def test_a_holders_note_fits_what_the_server_keeps_and_is_read_back(purpose, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 80)
    note = _note(purpose)
    assert len(note) <= 63
    read = _read_note(note)
    assert (read.pid, read.purpose) == (os.getpid(), purpose)
    assert set(read.host or "") <= {"h"}
    assert abs(read.since - time.time()) < 60
    assert purpose in str(read)


@pytest.mark.parametrize("note", ["", "psql", "tilehawk|", "tilehawk|x|1|a|b", "tilehawk|1|never|a|b"])
def test_a_note_that_cannot_be_read_is_a_holder_all_the_same(note):
    assert _read_note(note).purpose == "starting"
