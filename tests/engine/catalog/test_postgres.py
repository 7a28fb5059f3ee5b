"""The catalog on a real PostgreSQL server. The suites of this folder run there too: see the fixture ``workspace``."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

import engine.catalog.migrations
from engine.catalog import ledger
from engine.catalog.migrations import HEAD, REVISIONS
from engine.catalog.schema import Base
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, WorkspaceBusy

pytestmark = [pytest.mark.nightly, pytest.mark.usefixtures("on_postgresql")]

VARIABLE = "TILEHAWK_DATABASE_URL"
TOMORROW = f"{int(HEAD) + 1:04}"
LATER = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "{TOMORROW}", "{HEAD}", None, None
def upgrade():
    op.add_column("scene", sa.Column("weather", sa.String(8)))
"""
HOLD = """
import sys
from pathlib import Path
from engine.catalog.workspace import Workspace
with Workspace.open(Path(sys.argv[1])) as workspace, workspace.worker_lock("pretrain"):
    print("held", flush=True)
    sys.stdin.read()
"""
WRITE = """
import sys
from pathlib import Path
from engine.catalog import ledger
from engine.catalog.workspace import Workspace
with Workspace.open(Path(sys.argv[1])) as workspace:
    for _ in range(25):
        with workspace.session() as session:
            ledger.record(session, sys.argv[2], after=len(ledger.events(session)))
"""


@pytest.fixture
def made(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        yield workspace


@pytest.fixture
def schema(made):
    return json.loads((made.root / "tilehawk.json").read_text())["schema"]


@pytest.fixture
def database(postgres):
    """Another, empty database on the same server."""
    postgres.psql("DROP DATABASE IF EXISTS other")
    postgres.psql("CREATE DATABASE other")
    yield "other"
    postgres.psql("DROP DATABASE other WITH (FORCE)")


def test_the_marker_says_which_schema_and_neither_where_nor_how_to_get_in(made, schema, postgres):
    marker = json.loads((made.root / "tilehawk.json").read_text())
    assert marker == {"format": 1, "catalog": "postgresql", "workspace": marker["workspace"], "schema": schema}
    assert schema == f"tilehawk_{marker['workspace'][:12]}"
    assert not list(made.root.glob("*.sqlite*"))
    written = b"".join(path.read_bytes() for path in made.root.rglob("*") if path.is_file())
    assert not any(word in written for word in (b"CANARY", b"127.0.0.1", str(postgres.port).encode()))


def test_the_migrated_schema_is_the_schema_of_the_code(made):
    with made.session() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_two_workspaces_in_one_database_are_apart(made, tmp_path):
    with Workspace.create(tmp_path / "second") as second, made.worker_lock("finetune"), second.worker_lock("predict"):
        with made.session() as session, second.session() as other:
            ledger.record(session, "first")
            ledger.record(other, "second")
        with made.session(write=False) as session:
            assert [event.kind for event in ledger.events(session)] == ["first"]
        assert (made.worker_holder().purpose, second.worker_holder().purpose) == ("finetune", "predict")
    assert made.jobs_schema != second.jobs_schema


def test_another_database_is_refused_and_not_touched(made, postgres, database, monkeypatch):
    monkeypatch.setenv(VARIABLE, postgres.url(database))
    for verb in (Workspace.open, Workspace.create):
        with pytest.raises(BadInput, match=f"other on 127.0.0.1 does not hold the catalog of {made.root}"):
            verb(made.root)
    assert postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tilehawk%'", database=database) == "0"


def test_a_schema_of_another_workspace_under_the_same_name_is_refused(made, schema, postgres):
    postgres.psql(f"COMMENT ON SCHEMA {schema} IS 'Tilehawk workspace {'0' * 32}'")
    with pytest.raises(BadInput, match="does not hold the catalog"):
        Workspace.open(made.root)


def test_a_wrong_password_is_refused_and_not_repeated(made, postgres, monkeypatch):
    monkeypatch.setenv(VARIABLE, postgres.url().replace("CANARY", "WRONG"))
    with pytest.raises(BadInput, match="password authentication failed") as refused:
        Workspace.open(made.root)
    assert "WRONG" not in str(refused.value)


def test_a_user_without_the_right_to_make_a_schema_is_told_which_one(postgres, database, tmp_path, monkeypatch):
    postgres.psql("DROP ROLE IF EXISTS guest")
    postgres.psql("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    monkeypatch.setenv(VARIABLE, f"postgresql://guest:guest@127.0.0.1:{postgres.port}/{database}")
    with pytest.raises(BadInput, match='GRANT CREATE ON DATABASE "other" TO "guest"'):
        Workspace.create(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    postgres.psql("GRANT CREATE ON DATABASE other TO guest")
    Workspace.create(tmp_path / "new").close()


def test_a_database_in_another_encoding_is_refused(postgres, tmp_path, monkeypatch):
    postgres.psql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    monkeypatch.setenv(VARIABLE, postgres.url("latin"))
    with pytest.raises(BadInput, match=r"LATIN1.*UTF8"):
        Workspace.create(tmp_path / "new")


def test_a_backup_put_back_into_another_database_is_the_workspace(made, schema, postgres, database, monkeypatch):
    with made.session() as session:
        ledger.record(session, "kept")
    dump = made.root.parent / "catalog.dump"
    dump.write_bytes(postgres.program("pg_dump", "--format=custom", f"--schema={schema}").stdout)
    postgres.program("pg_restore", "--exit-on-error", str(dump), database=database)
    monkeypatch.setenv(VARIABLE, postgres.url(database))
    with Workspace.open(made.root) as opened, opened.session() as session:
        assert [event.kind for event in ledger.events(session)] == ["kept"]
        ledger.record(session, "goes on")


def test_two_making_the_same_workspace_at_once_get_the_same_one(tmp_path, postgres):
    before = postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tilehawk%'")
    found = []

    def make() -> None:
        with Workspace.create(tmp_path / "new") as workspace:
            found.append(workspace.jobs_schema)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert int(postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tilehawk%'")) == int(before) + 1


def test_processes_that_write_take_turns_and_nothing_is_lost(made):
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(made.root), name]) for name in ("a", "b")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with made.session(write=False) as session:
        events = ledger.events(session)
    assert [event.details["after"] for event in events] == list(range(50))
    assert {event.kind for event in events} == {"a", "b"}


def test_a_reader_sees_one_state_from_its_begin_to_its_end(made):
    with made.session(write=False) as reading:
        assert ledger.events(reading) == []
        with made.session() as writing:
            ledger.record(writing, "later")
        assert ledger.events(reading) == []
    with made.session(write=False) as reading:
        assert [event.kind for event in ledger.events(reading)] == ["later"]


@pytest.fixture
def holder(made):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(made.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_whoever_finds_the_right_taken_is_told_who_where_what_and_since_when(made, holder):
    where = socket.gethostname()[:12]
    with (
        pytest.raises(WorkspaceBusy, match=rf"process {holder.pid} on {where}.*\(pretrain, since \d{{4}}-\d\d-\d\d"),
        made.worker_lock("finetune"),
    ):
        raise AssertionError("two at once")
    assert (made.worker_holder().pid, made.worker_holder().purpose) == (holder.pid, "pretrain")
    assert made.holder("app") is None


def test_the_server_frees_the_right_of_a_killed_holder(made, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with made.as_worker(wait_seconds=10):
        assert made.worker_holder().purpose == "worker"
    assert made.worker_holder() is None


def end_connection_of(postgres, purpose: str) -> None:
    query = f"SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE application_name LIKE 'tilehawk|%|{purpose}|%'"
    assert postgres.psql(query) == "1"


def test_a_right_whose_connection_was_lost_is_taken_anew_before_the_next_write(made, postgres):
    with made.worker_lock("finetune"):
        end_connection_of(postgres, "finetune")
        assert made.worker_holder() is None
        with made.session() as session:
            ledger.record(session, "written")
        assert made.worker_holder().purpose == "finetune"


def test_who_lost_the_right_to_another_writes_nothing_more(made, postgres):
    with Workspace.open(made.root) as other, made.worker_lock("finetune"):
        end_connection_of(postgres, "finetune")
        with other.worker_lock("predict"):
            with pytest.raises(WorkspaceBusy, match=r"was lost.*predict"), made.session() as session:
                ledger.record(session, "refused")
            with other.session() as session:
                ledger.record(session, "written")
    with made.session(write=False) as session:
        assert [event.kind for event in ledger.events(session)] == ["written"]


def test_a_server_that_came_back_is_used_again(made, postgres):
    with made.session() as session:
        ledger.record(session, "before")
    postgres.restart()
    with made.session() as session:
        assert [event.kind for event in ledger.events(session)] == ["before"]


@pytest.fixture
def later_code(tmp_path, monkeypatch):
    """A Tilehawk of tomorrow: the same migrations and one more; ``write`` replaces what that one does."""
    folder = tmp_path / "code" / "migrations"
    shutil.copytree(engine.catalog.migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def write(later: str) -> None:
        (folder / "versions" / f"{TOMORROW}_later.py").write_text(later)
        monkeypatch.setattr(engine.catalog.migrations, "FOLDER", folder)
        monkeypatch.setattr(engine.catalog.migrations, "HEAD", TOMORROW)
        monkeypatch.setattr(engine.catalog.migrations, "REVISIONS", (*REVISIONS, TOMORROW))

    return write


def columns(postgres, schema: str) -> set[str]:
    query = f"SELECT column_name FROM information_schema.columns WHERE table_schema = '{schema}' AND table_name = 'scene'"
    return set(postgres.psql(query).splitlines())


@pytest.mark.guarantee("G33")
def test_an_older_catalog_is_brought_forward_after_a_copy_is_kept(made, schema, postgres, later_code):
    with made.session() as session:
        ledger.record(session, "old")
    later_code(LATER)
    with Workspace.open(made.root) as opened, opened.session() as session:
        assert [event.kind for event in ledger.events(session)] == ["old"]
    assert "weather" in columns(postgres, schema)
    assert columns(postgres, f"{schema}_before_{TOMORROW}") == columns(postgres, schema) - {"weather"}
    assert postgres.psql(f"SELECT kind FROM {schema}_before_{TOMORROW}.ledger") == "old"


@pytest.mark.guarantee("G33")
def test_a_migration_that_fails_changes_nothing(made, schema, postgres, later_code):
    later_code(LATER + "    raise RuntimeError('power cut')\n")
    with pytest.raises(RuntimeError, match="power cut"):
        Workspace.open(made.root)
    assert "weather" not in columns(postgres, schema)
    assert columns(postgres, f"{schema}_before_{TOMORROW}") == set()
    later_code(LATER)
    Workspace.open(made.root).close()
    assert "weather" in columns(postgres, schema)


def test_two_that_migrate_at_once_do_it_once(made, later_code):
    later_code(LATER)
    failed = []

    def open_it() -> None:
        try:
            Workspace.open(made.root).close()
        except (DBAPIError, BadInput) as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.guarantee("G33")
def test_a_newer_catalog_is_refused_and_not_touched(made, schema, postgres):
    postgres.psql(f"UPDATE {schema}.alembic_version SET version_num = '9999'")
    for verb in (Workspace.open, Workspace.create):
        with pytest.raises(BadInput, match="newer Tilehawk"):
            verb(made.root)
    assert postgres.psql(f"SELECT version_num FROM {schema}.alembic_version") == "9999"


def test_a_writer_that_waits_too_long_for_its_turn_gives_up(made, monkeypatch):
    monkeypatch.setattr("engine.catalog.postgres.BUSY_SECONDS", 0.6)
    with Workspace.open(made.root) as other, made.session() as first:
        ledger.record(first, "first")
        first.flush()
        with pytest.raises(OperationalError, match="lock timeout"), other.session() as second:
            ledger.record(second, "second")


def type_command(workspace: Path, *arguments: object) -> dict:
    from app.cli.main import run

    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        code = run([*map(str, arguments), "--workspace", str(workspace), "--json"])
    assert code == 0, answer.getvalue()
    return json.loads(answer.getvalue())


def test_the_journey_from_imagery_to_a_round_leaves_no_password_behind(tmp_path, write_picture, capfd):
    for seed in range(3):
        write_picture(tmp_path / "imagery" / f"{seed}.png", width=128, height=128, seed=seed)
    boxes = [{"id": n, "image_id": n // 4 + 1, "category_id": 1, "bbox": [30 * (n % 4), 20, 16, 14], "area": 224} for n in range(12)]
    images = [{"id": n + 1, "file_name": f"{n}.png", "width": 128, "height": 128} for n in range(3)]
    (tmp_path / "labels.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "car"}]}))
    workspace = tmp_path / "workspace"
    type_command(workspace, "init")
    assert type_command(workspace, "ingest", tmp_path / "imagery", "--set", "tile=32", "--set", "overlap=0")["scenes_added"] == 3
    type_command(workspace, "labels", "import", tmp_path / "labels.json", "--withhold")
    ranked = type_command(workspace, "rank", "--budget-minutes", "5", "--strategy", "random", "--seed", "1")
    assert type_command(workspace, "oracle")
    status = type_command(workspace, "status")
    assert (status["scenes"], sum(status["tiles"].values()), len(status["rounds"])) == (3, 48, 1)
    assert status["rounds"][0]["state"] == "annotated", ranked
    shown = "".join(capfd.readouterr()) + json.dumps(status)
    assert "CANARY" not in shown
    assert not [path for path in workspace.rglob("*") if path.is_file() and b"CANARY" in path.read_bytes()]


@pytest.mark.skipif(importlib.util.find_spec("app.worker") is None, reason="there is no worker yet")
def test_a_job_waits_in_the_database_until_a_worker_does_it(made, write_picture, postgres, monkeypatch):
    """The password comes as the services of ``docker/compose.yaml`` get it, beside the address."""
    from app.jobs import Jobs
    from engine.progress import silent

    write_picture(made.root.parent / "imagery" / "a.png", width=64, height=64)
    monkeypatch.setenv("PGPASSWORD", "CANARY-of-postgres")
    monkeypatch.setenv(VARIABLE, postgres.url().replace(":CANARY-of-postgres", ""))
    with Workspace.open(made.root) as opened, Jobs(opened) as jobs:
        job = jobs.enqueue("ingest", {"tile": 32, "overlap": 0}, inputs={"source": str(made.root.parent / "imagery")})
        assert jobs.get(job).state == "queued"
        script = (
            "import sys, signal, threading; from pathlib import Path; from app.worker import run_worker\n"
            "from engine.catalog.workspace import Workspace\n"
            "stop = threading.Event(); signal.signal(signal.SIGTERM, lambda *_: stop.set())\n"
            "with Workspace.open(Path(sys.argv[1])) as workspace: run_worker(workspace, stop=stop)\n"
        )
        worker = subprocess.Popen([sys.executable, "-c", script, str(made.root)])
        try:
            done = jobs.follow(job, silent)
            assert (done.state, done.report["scenes_added"]) == ("done", 1)
            assert jobs.worker().alive
        finally:
            worker.terminate()
            assert worker.wait(timeout=30) == 0
    assert made.worker_holder() is None
    with made.session(write=False) as session:
        tables = session.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = :schema"), {"schema": made.jobs_schema})
    assert tables > 5
