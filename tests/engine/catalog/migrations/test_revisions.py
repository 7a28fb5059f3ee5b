import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, select

import engine.catalog.migrations
from engine.catalog import ledger
from engine.catalog.migrations import HEAD, REVISIONS
from engine.catalog.schema import Base, LabelSetRow, UserRow
from engine.catalog.workspace import Workspace

TOMORROW = f"{int(HEAD) + 1:04}"
LATER = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "{TOMORROW}", "{HEAD}", None, None
def upgrade():
    op.add_column("scene", sa.Column("weather", sa.String(8)))
"""


def test_the_migrated_schema_is_the_schema_of_the_code(sqlite_workspace):
    database = create_engine(f"sqlite:///{sqlite_workspace.root / 'catalog.sqlite'}")
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    database.dispose()


def test_the_listed_revisions_are_those_in_the_folder_in_order():
    config = Config()
    config.set_main_option("script_location", str(Path(engine.catalog.migrations.__file__).parent))
    folder = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(folder.walk_revisions()))) == REVISIONS
    assert folder.get_current_head() == HEAD


@pytest.fixture
def later_code(tmp_path, monkeypatch):
    """A Tilehawk of tomorrow: the same migrations and one more; ``write`` replaces what that one does."""
    folder = tmp_path / "code" / "migrations"
    shutil.copytree(Path(engine.catalog.migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def write(later: str) -> None:
        (folder / "versions" / f"{TOMORROW}_later.py").write_text(later)
        monkeypatch.setattr(engine.catalog.migrations, "FOLDER", folder)
        monkeypatch.setattr(engine.catalog.migrations, "HEAD", TOMORROW)
        monkeypatch.setattr(engine.catalog.migrations, "REVISIONS", (*REVISIONS, TOMORROW))

    return write


def columns(catalog: Path) -> set[str]:
    with closing(sqlite3.connect(catalog)) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(scene)")}


@pytest.mark.guarantee("G33")
def test_an_older_workspace_is_brought_forward_after_a_copy_is_kept(sqlite_workspace, later_code):
    with sqlite_workspace.session() as session:
        ledger.record(session, "old")
    later_code(LATER)
    with Workspace.open(sqlite_workspace.root) as opened, opened.session() as session:
        assert [event.kind for event in ledger.events(session)] == ["old"]
    assert "weather" in columns(sqlite_workspace.root / "catalog.sqlite")
    backup = sqlite_workspace.root / f"catalog.sqlite.before-{TOMORROW}"
    assert "weather" not in columns(backup)
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT kind FROM ledger").fetchall() == [("old",)]


@pytest.mark.guarantee("G33")
def test_a_migration_that_fails_changes_nothing(sqlite_workspace, later_code):
    later_code(LATER + "    raise RuntimeError('power cut')\n")
    with pytest.raises(RuntimeError, match="power cut"):
        Workspace.open(sqlite_workspace.root)
    assert "weather" not in columns(sqlite_workspace.root / "catalog.sqlite")
    later_code(LATER)
    Workspace.open(sqlite_workspace.root).close()
    assert "weather" in columns(sqlite_workspace.root / "catalog.sqlite")


KEPT = Path(__file__).parents[3] / "data" / "workspaces"


def test_a_catalog_of_every_revision_is_kept():
    """A new revision brings one: the catalog as the version that had it wrote it, with a few rows."""
    assert sorted(path.stem for path in KEPT.glob("*.sql")) == list(REVISIONS)


@pytest.mark.guarantee("G33")
@pytest.mark.parametrize("revision", REVISIONS)
def test_workspace_of_every_earlier_version_is_opened_with_all_its_rows(tmp_path, revision):
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "tilehawk.json").write_text('{"format": 1}')
    with closing(sqlite3.connect(root / "catalog.sqlite")) as connection:
        connection.executescript((KEPT / f"{revision}.sql").read_text())
    with Workspace.open(root) as opened, opened.session(write=False) as session:
        assert [event.details for event in ledger.events(session)] == [{"tiles": 1}]
        assert session.get_one(LabelSetRow, 1).names == ["car", "ship"]
        accounts = {row.name: row.role for row in session.scalars(select(UserRow))}
        assert compare_metadata(MigrationContext.configure(session.connection()), Base.metadata) == []
    two = {"anna": "engineer", "berta": "annotator"}
    expected = {"0001": {}} | dict.fromkeys(("0004", "0005", "0006"), two)
    assert accounts == expected.get(revision, {"anna": "engineer"}), "who had an account could do everything, and goes on so"


def test_migrating_says_nothing(tmp_path, caplog, capfd):
    caplog.set_level(logging.INFO)
    Workspace.create(tmp_path / "new").close()
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
