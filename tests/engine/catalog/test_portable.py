"""The catalog as one SQLite file, out of either kind of database and into either kind."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import select

from engine.catalog import ledger
from engine.catalog.models import add_model
from engine.catalog.portable import forget_passwords
from engine.catalog.schema import Base, UserRow
from engine.catalog.workspace import Workspace
from engine.stages.backup import BackupConfig, back_up
from engine.stages.restore import restore


@pytest.fixture
def filled(workspace, fake):
    """Rows with numbers that are not in a row, JSON, and words that no encoding should lose."""
    with workspace.session() as session:
        fake("catalog").add_scene(session, "ä\u202e.tif", width=128, height=128, transform=[0.1, 0.0, 1.0, 0.0, -0.1, 2.0])
        fake("catalog").add_scene(session, "b.tif")
        parent = add_model(session, name="p", stage="pretrain", config={"a": [1, None, "ß"]}, data_hash="0" * 64, metrics={})
        session.flush()
        add_model(session, name="m", stage="finetune", config={}, data_hash="1" * 64, metrics={}, parent_id=parent.id)
        session.add(UserRow(name="anna", password_hash="CANARY", role="annotator"))
        for number in range(2500):
            ledger.record(session, "many", number=number)
    return workspace


def rows(workspace):
    with workspace.session(write=False) as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


@pytest.mark.parametrize("into", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def test_rows_are_the_same_in_either_kind_of_database(filled, into, request, tmp_path, monkeypatch):
    back_up(filled, tmp_path / "kept.tar", BackupConfig(secrets=True))
    before = rows(filled)
    monkeypatch.delenv("TILEHAWK_DATABASE_URL", raising=False)
    if into == "postgresql":
        monkeypatch.setenv("TILEHAWK_DATABASE_URL", request.getfixturevalue("postgres").url())
    restore(tmp_path / "kept.tar", tmp_path / "back")
    with Workspace.open(tmp_path / "back") as restored:
        assert (restored.root / "catalog.sqlite").is_file() == (into == "sqlite")
        assert rows(restored) == before
        with restored.session() as session:
            ledger.record(session, "after")
            session.flush()
            assert ledger.events(session)[-1].id == 2501, "new rows are numbered on"


def test_no_hash_of_a_password_stays_in_the_file(filled, tmp_path):
    copy = tmp_path / "copy.sqlite"
    filled.copy_catalog(copy)
    assert b"CANARY" in copy.read_bytes()
    assert forget_passwords(copy) == 1
    assert b"CANARY" not in copy.read_bytes()
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT name, role, password_hash FROM user_account").fetchall() == [("anna", "annotator", "")]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_copy_can_be_stopped(filled, tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.copy_catalog(tmp_path / "copy.sqlite", stop)
    with filled.session() as session:
        ledger.record(session, "goes on")
