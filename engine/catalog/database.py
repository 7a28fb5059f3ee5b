"""Where a workspace keeps its catalog: a file of its own (SQLite, here), or a schema on a server (:mod:`engine.catalog.postgres`)."""

from __future__ import annotations

import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from engine.catalog import migrations
from engine.catalog.locks import Holder, exclusive, holder_of
from engine.catalog.portable import without_log
from engine.errors import BadInput
from engine.files import atomic_file

__all__ = ["BUSY_SECONDS", "VARIABLE", "Database", "SqliteDatabase", "newer"]

CATALOG = "catalog.sqlite"
JOBS = "jobs.sqlite"
VARIABLE = "TILEHAWK_DATABASE_URL"
"""The environment variable with the address of the PostgreSQL database that holds the catalog."""
BUSY_SECONDS = 30.0
"""How long a writer waits for its turn."""
PAGES_AT_ONCE = 4096


class Database(ABC):
    """The catalog's database, the job store beside it, and the locks of the workspace."""

    writing: Engine
    """its transactions take the writers' turn as they begin"""
    reading: Engine
    """its transactions see one state, wait for no writer and refuse a write"""
    jobs_url: str
    """SQLAlchemy address of the job store, password included"""
    jobs_schema: str
    """schema of the job store's tables, where its database has schemas"""

    @abstractmethod
    def require(self) -> None:
        """Look for the catalog, changing nothing.

        Raises:
            BadInput: it is missing, or cannot be reached.
        """

    @abstractmethod
    def migrate(self) -> None:
        """Bring the catalog to the newest revision: from nothing, or from an older one after a copy of that.

        Raises:
            BadInput: it was made by a newer Tilehawk; nothing is changed then.
        """

    @abstractmethod
    def exclusive(self, name: str, purpose: str, *, wait_seconds: float = 0.0) -> AbstractContextManager[None]:
        """Hold the lock ``name`` while the block runs; see :meth:`engine.catalog.workspace.Workspace.exclusive`."""

    @abstractmethod
    def holder(self, name: str) -> Holder | None:
        """Who holds the lock ``name`` now; None where nobody does."""

    @abstractmethod
    def copy_to(self, target: Path, tick: Callable[[], None]) -> None:
        """Write the catalog as one SQLite file to ``target``, as it is at one moment, while others go on working.

        Args:
            target: where nothing is yet.
            tick: called often; may raise to stop.
        """

    @abstractmethod
    def replace_with(self, catalog: Path, tick: Callable[[], None]) -> None:
        """Make the rows of the SQLite file ``catalog``, of this or an older revision, those of this catalog, which is empty."""

    def close(self) -> None:
        """Close the connections; calling it again does nothing."""
        self.writing.dispose()


class SqliteDatabase(Database):
    """The files ``catalog.sqlite`` and ``jobs.sqlite`` of a workspace, its locks files too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._catalog = root / CATALOG
        self.writing = create_engine(f"sqlite:///{self._catalog}", connect_args={"timeout": BUSY_SECONDS})
        event.listen(self.writing, "connect", _prepare_connection)
        event.listen(self.writing, "begin", _begin)
        self.reading = self.writing.execution_options(begin="BEGIN DEFERRED")
        self.jobs_url = f"sqlite:///{root / JOBS}"
        self.jobs_schema = "dbos"

    def require(self) -> None:
        """Look for the file."""
        if not self._catalog.is_file():
            raise BadInput(
                f"the workspace {self._root} has no {CATALOG}",
                expected="its catalog",
                remedy=f"Put a backup back as {CATALOG}, or start it anew and empty: tilehawk init {self._root}",
            )

    def migrate(self) -> None:
        """Run what is missing; the copy of an older catalog lies beside it."""
        if _revision_of(self._catalog) == migrations.HEAD:
            return
        with exclusive(self._root / "catalog.lock", "migrating the catalog", wait_seconds=BUSY_SECONDS):
            revision = _revision_of(self._catalog)
            if revision == migrations.HEAD:
                return
            if revision is not None:
                _back_up(self._catalog, self._root / f"{CATALOG}.before-{migrations.HEAD}")
            with self.writing.begin() as connection:
                migrations.upgrade(connection)

    def copy_to(self, target: Path, tick: Callable[[], None]) -> None:
        """By SQLite's online backup; in a transaction that reads, it sees one state, and no writer holds it up or waits for it."""
        with closing(sqlite3.connect(self._catalog, isolation_level=None)) as source, closing(sqlite3.connect(target)) as copy:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=PAGES_AT_ONCE, progress=lambda *_left: tick())
        without_log(target)

    def replace_with(self, catalog: Path, tick: Callable[[], None]) -> None:
        """By putting the file in the place of the empty one."""
        self.close()
        for name in (f"{CATALOG}-wal", f"{CATALOG}-shm"):
            (self._root / name).unlink(missing_ok=True)
        with atomic_file(self._catalog) as temporary:
            shutil.copyfile(catalog, temporary)
        tick()
        self.migrate()

    def exclusive(self, name: str, purpose: str, *, wait_seconds: float = 0.0) -> AbstractContextManager[None]:
        """A lock on the file ``<name>.lock``."""
        return exclusive(self._root / f"{name}.lock", purpose, wait_seconds=wait_seconds)

    def holder(self, name: str) -> Holder | None:
        """Whose lock is on the file ``<name>.lock``."""
        return holder_of(self._root / f"{name}.lock")


def newer(root: Path, found: str, expected: str) -> BadInput:
    """The refusal of a workspace from a later version."""
    return BadInput(
        f"the workspace {root} has {found}, made by a newer Tilehawk", expected=expected, remedy="Update Tilehawk; nothing was changed"
    )


def _prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
    connection.exec_driver_sql(f"PRAGMA query_only = {int(begin != 'BEGIN IMMEDIATE')}")
    connection.exec_driver_sql(begin)


def _revision_of(catalog: Path) -> str | None:
    """The schema revision written in ``catalog``, read without changing it; None for a catalog that is missing or empty.

    Raises:
        BadInput: a revision that this code does not know, or no database at all.
    """
    if not catalog.exists():
        return None
    beside_a_log = catalog.with_name(f"{CATALOG}-wal").exists()
    try:
        try:
            row = _read_revision(catalog, "mode=ro" if beside_a_log else "immutable=1")
        except sqlite3.DatabaseError:
            row = _read_revision(catalog, "mode=ro")
    except sqlite3.DatabaseError as damaged:
        raise BadInput(
            f"{catalog} cannot be read: {damaged}", expected="an SQLite database", remedy="Put a backup back in its place"
        ) from damaged
    if row is not None and row not in migrations.REVISIONS:
        raise newer(catalog.parent, f"schema {row}", f"one of {list(migrations.REVISIONS)}")
    return row


def _read_revision(catalog: Path, mode: str) -> str | None:
    """``immutable=1`` leaves no side files behind, but may stumble over a writer that comes at that moment; ``mode=ro`` does not."""
    with closing(sqlite3.connect(f"{catalog.as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def _back_up(catalog: Path, target: Path) -> None:
    with atomic_file(target) as temporary, closing(sqlite3.connect(catalog)) as source, closing(sqlite3.connect(temporary)) as copy:
        source.backup(copy)
