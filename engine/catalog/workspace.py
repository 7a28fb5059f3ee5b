"""The workspace: one folder with a catalog, the folders of the stages, and the right to change them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.orm import Session

from engine.catalog.database import VARIABLE, Database, SqliteDatabase, newer
from engine.catalog.locks import WORKER, Holder
from engine.errors import BadInput
from engine.files import TEMPORARY, sweep_temporary, write_json

__all__ = ["MARKER", "Workspace"]

FORMAT = 1
MARKER = "tilehawk.json"
FOLDERS = ("scenes", "models", "predictions", "exports", "checkpoints", "reports", "temporary", "weights")


class Workspace:
    """An open workspace; a context manager that closes its database connections.

    Build it with :meth:`create` or :meth:`open`.
    """

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self._database = database
        self._is_worker = False
        self._one_stage = threading.Lock()

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
            _write_marker(root)
        marker = _read_marker(root)
        if "catalog" not in marker and os.environ.get(VARIABLE):
            raise BadInput(
                f"the catalog of {root} is SQLite, and {VARIABLE} is set",
                expected="a new workspace, or the variable not set",
                remedy=f"Make another workspace for that database, or unset {VARIABLE}",
            )
        for folder in FOLDERS:
            (root / folder).mkdir(exist_ok=True)
        return cls._migrated(root, _database(root, marker), must_exist="catalog" in marker)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open the workspace at ``root``, bringing an older one forward (a copy of its catalog is kept beside it).

        Raises:
            BadInput: there is none, its catalog is missing, or it was made by a newer Tilehawk; nothing is touched then.
        """
        root = Path(root).absolute()
        if not (root / MARKER).is_file():
            raise BadInput(f"{root} is not a workspace", expected=f"a folder with {MARKER}", remedy=f"Make one: tilehawk init {root}")
        return cls._migrated(root, _database(root, _read_marker(root)), must_exist=True)

    @classmethod
    def _migrated(cls, root: Path, database: Database, *, must_exist: bool) -> Self:
        try:
            if must_exist:
                database.require()
            database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(root, database)

    @property
    def identity(self) -> str:
        """Thirty-two hexadecimal digits that no other workspace has; those from before it was written down get theirs now."""
        marker = _read_marker(self.root)
        if "identity" not in marker:
            marker["identity"] = uuid.uuid4().hex
            write_json(self.root / MARKER, marker)
        return str(marker["identity"])

    def copy_catalog(self, target: Path, tick: Callable[[], None] = lambda: None) -> None:
        """Write the catalog to ``target`` as one SQLite file, as it is at one moment, while others go on working.

        Args:
            target: where nothing is yet.
            tick: called often; may raise to stop.
        """
        self._database.copy_to(target, tick)

    def take_over(self, catalog: Path, identity: str | None, tick: Callable[[], None] = lambda: None) -> None:
        """Become the workspace of which ``catalog`` is a copy; this one was just made and is empty.

        Args:
            catalog: a SQLite file of this or an older revision, named ``catalog.sqlite`` in a folder of its own.
            identity: of the copied workspace; None where it had none yet.
            tick: called often; may raise to stop.
        """
        self._database.replace_with(catalog, tick)
        if identity is not None:
            write_json(self.root / MARKER, {**_read_marker(self.root), "identity": identity})

    @contextmanager
    def session(self, *, write: bool = True) -> Iterator[Session]:
        """One short transaction: committed on a clean exit, rolled back otherwise; objects stay readable afterwards.

        Args:
            write: take the write turn at once, so that no other writer comes between what is read and what is written.
                ``False`` for sessions that only read: they never wait for a writer, and a write in one is refused.
        """
        with Session(self._database.writing if write else self._database.reading, expire_on_commit=False) as session, session.begin():
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
        return self._database.exclusive(name, purpose, wait_seconds=wait_seconds)

    def holder(self, name: str) -> Holder | None:
        """Who holds the workspace's lock ``name`` now; None where nobody does."""
        return self._database.holder(name)

    @property
    def jobs_url(self) -> str:
        """SQLAlchemy address of the job store; it may hold a password, so it belongs in no message."""
        return self._database.jobs_url

    @property
    def jobs_schema(self) -> str:
        """Schema of the job store's tables, where its database has schemas."""
        return self._database.jobs_schema

    @property
    def scenes(self) -> Path:
        """Rasters that were unpacked, under opaque names."""
        return self.root / "scenes"

    @property
    def weights(self) -> Path:
        """Weights of backbones that were brought in, a file each."""
        return self.root / "weights"

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
    def uploads(self) -> Path:
        """What came in through the pages, a folder each, until it is taken in."""
        return self.root / "uploads"

    @property
    def temporary(self) -> Path:
        """Scratch space on the workspace's own file system; nothing in it outlives its job."""
        return self.root / "temporary"

    def close(self) -> None:
        """Close the database connections; calling it again does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        """The workspace itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close."""
        self.close()


def _read_marker(root: Path) -> dict[str, Any]:
    """What ``tilehawk.json`` says.

    Raises:
        BadInput: it cannot be read, or is of a newer format.
    """
    try:
        marker = json.loads((root / MARKER).read_text())
        found = marker["format"]
        known = 1 <= int(found) <= FORMAT
    except (ValueError, KeyError, TypeError) as damaged:
        raise BadInput(
            f"{root / MARKER} cannot be read ({damaged!r})", expected=f'{{"format": {FORMAT}}}', remedy="Put it back from a backup"
        ) from damaged
    if not known:
        raise newer(root, f"workspace format {found}", f"format {FORMAT} or below")
    return dict(marker)


def _write_marker(root: Path) -> None:
    """Decide where the catalog is going to be, and write it down."""
    given = os.environ.get(VARIABLE)
    if not given:
        write_json(root / MARKER, {"format": FORMAT})
        return
    from engine.catalog.postgres import make_schema

    with make_schema(given) as named:
        if not (root / MARKER).exists():
            write_json(root / MARKER, {"format": FORMAT, **named()})


def _database(root: Path, marker: dict[str, Any]) -> Database:
    if "catalog" not in marker:
        return SqliteDatabase(root)
    from engine.catalog.postgres import PostgresDatabase

    return PostgresDatabase.of(root, marker, os.environ.get(VARIABLE))
