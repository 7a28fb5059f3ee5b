import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from engine.catalog import ledger
from engine.catalog.schema import LedgerEvent, Tile
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, WorkspaceBusy


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"" for path in sorted(root.rglob("*"))}


def test_create_makes_the_folders_the_catalog_and_the_marker(tmp_path):
    with Workspace.create(tmp_path / "a" / "b") as made:
        folders = [made.scenes, made.models, made.predictions, made.exports, made.checkpoints, made.reports, made.temporary]
        assert all(folder.is_dir() and folder.parent == made.root for folder in folders)
        assert json.loads((made.root / "tilehawk.json").read_text()) == {"format": 1}
        assert (made.root / "catalog.sqlite").is_file()


def test_create_opens_what_is_there_and_open_finds_what_was_written(workspace):
    with workspace.session() as session:
        ledger.record(session, "made", by="test")
    for opened in (Workspace.create(workspace.root), Workspace.open(workspace.root)):
        with opened, opened.session() as session:
            assert [event.details for event in ledger.events(session, "made")] == [{"by": "test"}]


@pytest.mark.parametrize("missing", ["catalog.sqlite", "models", "catalog.lock"])
def test_create_completes_an_interrupted_creation(tmp_path, missing):
    Workspace.create(tmp_path).close()
    for path in sorted(tmp_path.glob(f"{missing}*")):
        path.rmdir() if path.is_dir() else path.unlink()
    with Workspace.create(tmp_path) as made, made.session() as session:
        assert made.models.is_dir()
        assert session.scalars(select(Tile)).all() == []


def test_create_refuses_a_folder_with_something_else_in_it_and_a_file(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    before = content(tmp_path)
    with pytest.raises(BadInput, match=r"thesis\.tex"):
        Workspace.create(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        Workspace.create(tmp_path / "thesis.tex")
    assert content(tmp_path) == before


def test_open_refuses_where_there_is_none_and_says_how_to_make_one(tmp_path):
    with pytest.raises(BadInput, match="tilehawk init"):
        Workspace.open(tmp_path)
    assert content(tmp_path) == {}


def test_open_refuses_a_workspace_without_its_catalog(sqlite_workspace):
    sqlite_workspace.close()
    (sqlite_workspace.root / "catalog.sqlite").unlink()
    with pytest.raises(BadInput, match=r"catalog\.sqlite"):
        Workspace.open(sqlite_workspace.root)


@pytest.mark.guarantee("G33")
@pytest.mark.parametrize("newer", ["format", "schema"])
def test_a_newer_workspace_is_refused_and_not_touched(sqlite_workspace, newer):
    sqlite_workspace.close()
    if newer == "format":
        (sqlite_workspace.root / "tilehawk.json").write_text('{"format": 2}')
    else:
        with closing(sqlite3.connect(sqlite_workspace.root / "catalog.sqlite")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = content(sqlite_workspace.root)
    for verb in (Workspace.open, Workspace.create):
        with pytest.raises(BadInput, match="newer Tilehawk"):
            verb(sqlite_workspace.root)
    assert content(sqlite_workspace.root) == before


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"format": "x"}', b"\xff"])
def test_a_damaged_marker_is_named(workspace, damage):
    (workspace.root / "tilehawk.json").write_bytes(damage)
    with pytest.raises(BadInput, match=r"tilehawk\.json"):
        Workspace.open(workspace.root)


def test_a_damaged_catalog_is_named(sqlite_workspace):
    sqlite_workspace.close()
    (sqlite_workspace.root / "catalog.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(BadInput, match=r"catalog\.sqlite"):
        Workspace.open(sqlite_workspace.root)


def test_every_connection_is_durable_and_checks_its_references(sqlite_workspace):
    with sqlite_workspace.session() as session:
        found = {
            pragma: session.scalar(text(f"PRAGMA {pragma}")) for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    with pytest.raises(IntegrityError), sqlite_workspace.session() as session:
        session.add(Tile(scene_id=99, x=0, y=0, width=1, height=1, content_hash="", split="none"))


def test_a_session_that_fails_writes_nothing(workspace):
    def fail() -> None:
        with workspace.session() as session:
            ledger.record(session, "half")
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with workspace.session() as session:
        assert ledger.events(session) == []


def test_objects_stay_readable_after_their_session(workspace):
    with workspace.session() as session:
        session.add(event := LedgerEvent(kind="kept", details={}))
    assert event.kind == "kept"


def test_reading_goes_on_beside_a_writer_and_cannot_write(workspace):
    with workspace.session() as writing:
        ledger.record(writing, "unfinished")
        writing.flush()
        with workspace.session(write=False) as reading:
            assert ledger.events(reading) == []
    with pytest.raises(DBAPIError, match=r"read-?only"), workspace.session(write=False) as reading:
        ledger.record(reading, "refused")
    with workspace.session() as session:
        ledger.record(session, "written")
    with workspace.session(write=False) as reading:
        assert [event.kind for event in ledger.events(reading)] == ["unfinished", "written"]


def test_writers_take_turns_and_none_is_lost(workspace):
    def write(name: str) -> None:
        for _ in range(10):
            with workspace.session() as session:
                count = len(ledger.events(session))
                ledger.record(session, name, after=count)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with workspace.session() as session:
        assert [event.details["after"] for event in ledger.events(session)] == list(range(30))


def test_the_worker_lock_sweeps_what_a_crash_left_and_goes_to_one_stage_at_a_time(workspace):
    (workspace.models / ".tmp-0-model").mkdir()
    with workspace.worker_lock("finetune"):
        assert list(workspace.models.iterdir()) == []
        with Workspace.open(workspace.root) as other, pytest.raises(WorkspaceBusy, match="finetune"), other.worker_lock("predict"):
            pass
    with workspace.worker_lock("predict"):
        pass


def test_a_killed_writer_leaves_the_last_committed_state(workspace):
    script = (
        "import os, sys; from pathlib import Path; from engine.catalog import ledger; from engine.catalog.workspace import Workspace\n"
        "w = Workspace.open(Path(sys.argv[1]))\n"
        "with w.session() as s: ledger.record(s, 'committed')\n"
        "with w.session() as s:\n    ledger.record(s, 'lost'); s.flush(); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(workspace.root)], check=False)
    assert killed.returncode == -9
    with workspace.session() as session:
        assert [event.kind for event in ledger.events(session)] == ["committed"]


def test_opening_loads_no_heavy_library(workspace):
    script = (
        "import sys; from pathlib import Path; from engine.catalog.workspace import Workspace\n"
        "import engine.catalog.tiles, engine.catalog.annotations\n"
        "Workspace.open(Path(sys.argv[1])).close()\n"
        "print([name for name in ('torch', 'rasterio', 'alembic', 'shapely', 'pandas') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script, str(workspace.root)], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_a_worker_runs_stages_under_the_right_that_it_holds(workspace):
    with Workspace.open(workspace.root) as other:
        with (
            workspace.as_worker(),
            workspace.worker_lock("finetune"),
            pytest.raises(WorkspaceBusy, match="worker"),
            other.worker_lock("predict"),
        ):
            raise AssertionError("two at once")
        with other.worker_lock("predict"), pytest.raises(WorkspaceBusy, match="predict"), workspace.worker_lock("finetune"):
            raise AssertionError("the right outlived the worker")


def test_the_holder_of_the_right_to_run_stages_is_named_as_long_as_there_is_one(workspace):
    assert workspace.worker_holder() is None
    with workspace.worker_lock("finetune"), Workspace.open(workspace.root) as other:
        assert other.worker_holder().purpose == "finetune"
        assert other.holder("app") is None, "another lock"
    with workspace.as_worker():
        assert workspace.worker_holder().purpose == "worker"
    assert workspace.worker_holder() is None


@pytest.mark.guarantee("G8")
def test_what_is_committed_is_on_the_disk(tmp_path):
    """Every connection that writes waits until the disk has it; a reader's too, for it may become one."""
    with Workspace.create(tmp_path / "workspace") as workspace:
        for write in (True, False):
            with workspace.session(write=write) as session:
                pragmas = {
                    name: session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
                }
            assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
