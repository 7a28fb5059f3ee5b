"""The workspace: one folder with a catalog, the folders of the stages, and the right to change them."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.orm import Session

from engine.catalog.locks import Holder, exclusive, holder_of
from engine.catalog.migrations import HEAD, REVISIONS
from engine.errors import BadInput
from engine.files import TEMPORARY, atomic_file, sweep_temporary, write_json

__all__ = ["MARKER", "WORKER", "Workspace"]

FORMAT = 1
MARKER = "tilehawk.json"
CATALOG = "catalog.sqlite"
JOBS = "jobs.sqlite"
FOLDERS = ("scenes", "models", "predictions", "exports", "checkpoints", "reports", "temporary")
BUSY_SECONDS = 30.0
WORKER = "worker"
"""The lock that is the right to run stages, and what the worker holds it for."""


class Workspace:
    """An open workspace; a context manager that closes its database connections.

    Build it with :meth:`create` or :meth:`open`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._engine = create_engine(f"sqlite:///{root / CATALOG}", connect_args={"timeout": BUSY_SECONDS})
        event.listen(self._engine, "connect", _prepare_connection)
        event.listen(self._engine, "begin", _begin)
        self._is_worker = False
        self._one_stage = threading.Lock()
        self._reading_engine = self._engine.execution_options(begin="BEGIN DEFERRED")

    @classmethod
    def create(cls, root: Path) -> Self:
        """Make a workspace at ``root``, or open the one that is there; a creation that was interrupted is completed.

        Raises:
            BadInput: ``root`` is a file, or a folder with something else in it.
        """
        root = Path(root).absolute()
        if root.exists() and not root.is_dir():
            raise BadInput(f"{root} is a file", expected="a folder, or nothing yet", remedy="Name another folder")
        root.mkdir(parents=True, exist_ok=True)
        if not (root / MARKER).exists():
            foreign = sorted(path.name for path in root.iterdir() if not path.name.startswith(TEMPORARY))
            if foreign:
                raise BadInput(
                    f"{root} holds {foreign[0]!r} and is not a workspace",
                    expected="an empty folder, or nothing yet",
                    remedy="Name another folder",
                )
            write_json(root / MARKER, {"format": FORMAT})
        _require_known_format(root)
        for folder in FOLDERS:
            (root / folder).mkdir(exist_ok=True)
        return cls._migrated(root)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open the workspace at ``root``, bringing an older one forward (a copy of its catalog is kept beside it).

        Raises:
            BadInput: there is none, its catalog is missing, or it was made by a newer Tilehawk; nothing is touched then.
        """
        root = Path(root).absolute()
        if not (root / MARKER).is_file():
            raise BadInput(f"{root} is not a workspace", expected=f"a folder with {MARKER}", remedy=f"Make one: tilehawk init {root}")
        _require_known_format(root)
        if not (root / CATALOG).is_file():
            raise BadInput(
                f"the workspace {root} has no {CATALOG}",
                expected="its catalog",
                remedy=f"Put a backup back as {CATALOG}, or start it anew and empty: tilehawk init {root}",
            )
        return cls._migrated(root)

    @classmethod
    def _migrated(cls, root: Path) -> Self:
        if _revision_of(root / CATALOG) != HEAD:
            with exclusive(root / "catalog.lock", "migrating the catalog", wait_seconds=BUSY_SECONDS):
                revision = _revision_of(root / CATALOG)
                if revision is not None and revision != HEAD:
                    _back_up(root / CATALOG, root / f"{CATALOG}.before-{HEAD}")
                if revision != HEAD:
                    workspace = cls(root)
                    workspace._upgrade()
                    return workspace
        return cls(root)

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config

        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def session(self, *, write: bool = True) -> Iterator[Session]:
        """One short transaction: committed on a clean exit, rolled back otherwise; objects stay readable afterwards.

        Args:
            write: take the write turn at once, so that no other writer comes between what is read and what is written.
                ``False`` for sessions that only read: they never wait for a writer, and a write in one is refused.
        """
        with Session(self._engine if write else self._reading_engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def worker_lock(self, purpose: str) -> Iterator[None]:
        """The right to run a stage, held while the block runs; what a crashed stage left half-written is swept away first.

        Inside :meth:`as_worker` of this very object the right is there already, for one stage at a time.

        Raises:
            WorkspaceBusy: another process runs one; the message says who, what, and since when.
        """
        with contextlib.nullcontext() if self._is_worker else self.exclusive(WORKER, purpose), self._one_stage:
            for folder in FOLDERS:
                sweep_temporary(self.root / folder)
            yield

    @contextmanager
    def as_worker(self, *, wait_seconds: float = 0.0) -> Iterator[None]:
        """Hold the right to run stages for as long as the block runs: the stages that it calls on this object need not take it.

        Raises:
            WorkspaceBusy: another process has it.
        """
        with self.exclusive(WORKER, WORKER, wait_seconds=wait_seconds):
            self._is_worker = True
            try:
                yield
            finally:
                self._is_worker = False

    def worker_holder(self) -> Holder | None:
        """Who holds the right to run stages now; None where nobody does."""
        return self.holder(WORKER)

    def exclusive(self, name: str, purpose: str, *, wait_seconds: float = 0.0) -> AbstractContextManager[None]:
        """Hold the workspace's lock ``name`` while the block runs; it is freed when its holder dies.

        Args:
            name: which lock: lower-case letters.
            purpose: what it is held for, shown to whoever finds it taken.
            wait_seconds: how long to wait for another holder before giving up.

        Raises:
            WorkspaceBusy: another holder kept it; the message says who, what for, and since when.
        """
        return exclusive(self.root / f"{name}.lock", purpose, wait_seconds=wait_seconds)

    def holder(self, name: str) -> Holder | None:
        """Who holds the workspace's lock ``name`` now; None where nobody does."""
        return holder_of(self.root / f"{name}.lock")

    @property
    def jobs_url(self) -> str:
        """SQLAlchemy address of the job store; it may hold a password, so it belongs in no message."""
        return f"sqlite:///{self.root / JOBS}"

    @property
    def jobs_schema(self) -> str:
        """Schema of the job store's tables, where its database has schemas."""
        return "dbos"

    @property
    def scenes(self) -> Path:
        """Rasters that were unpacked, under opaque names."""
        return self.root / "scenes"

    @property
    def models(self) -> Path:
        """Trained models, a folder each."""
        return self.root / "models"

    @property
    def predictions(self) -> Path:
        """Prediction sets, a folder each."""
        return self.root / "predictions"

    @property
    def exports(self) -> Path:
        """Exported models, a folder each."""
        return self.root / "exports"

    @property
    def checkpoints(self) -> Path:
        """What trainings resume from."""
        return self.root / "checkpoints"

    @property
    def reports(self) -> Path:
        """Evaluation reports, curves, sheets."""
        return self.root / "reports"

    @property
    def temporary(self) -> Path:
        """Scratch space on the workspace's own file system; nothing in it outlives its job."""
        return self.root / "temporary"

    def close(self) -> None:
        """Close the database connections; calling it again does nothing."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """The workspace itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close."""
        self.close()


def _prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
    connection.exec_driver_sql(f"PRAGMA query_only = {int(begin != 'BEGIN IMMEDIATE')}")
    connection.exec_driver_sql(begin)


def _require_known_format(root: Path) -> None:
    try:
        found = json.loads((root / MARKER).read_text())["format"]
        known = 1 <= int(found) <= FORMAT
    except (ValueError, KeyError, TypeError) as damaged:
        raise BadInput(
            f"{root / MARKER} cannot be read ({damaged!r})", expected=f'{{"format": {FORMAT}}}', remedy="Put it back from a backup"
        ) from damaged
    if not known:
        raise _newer(root, f"workspace format {found}", f"format {FORMAT} or below")


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
    if row is not None and row not in REVISIONS:
        raise _newer(catalog.parent, f"schema {row}", f"one of {list(REVISIONS)}")
    return row


def _read_revision(catalog: Path, mode: str) -> str | None:
    """``immutable=1`` leaves no side files behind, but may stumble over a writer that comes at that moment; ``mode=ro`` does not."""
    with closing(sqlite3.connect(f"{catalog.as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def _newer(root: Path, found: str, expected: str) -> BadInput:
    return BadInput(
        f"the workspace {root} has {found}, made by a newer Tilehawk", expected=expected, remedy="Update Tilehawk; nothing was changed"
    )


def _back_up(catalog: Path, target: Path) -> None:
    with atomic_file(target) as temporary, closing(sqlite3.connect(catalog)) as source, closing(sqlite3.connect(temporary)) as copy:
        source.backup(copy)
