"""A whole workspace as one file or folder, while others go on working in it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from sqlalchemy import func, select

from engine.catalog import backups
from engine.catalog.backups import FOLDERS_KEPT, SECRET_FILES, UPLOADS, Entry, Writer
from engine.catalog.database import CATALOG
from engine.catalog.migrations import HEAD as NEWEST
from engine.catalog.portable import forget_passwords
from engine.catalog.schema import Scene
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, TilehawkError, UsageError
from engine.files import TEMPORARY, atomic_directory, atomic_file, sweep_beside
from engine.progress import Progress, silent

__all__ = ["BackupConfig", "BackupReport", "back_up"]

TRIES = 5
"""How often what is replaced while it is read is read anew."""


class BackupConfig(StageConfig):
    """What goes into a backup beside the catalog, scenes, weights, models, predictions, exports and reports."""

    secrets: bool = False
    """also the key that signs sessions and tile addresses, the tokens of annotation servers, and the hashes of passwords"""
    uploads: bool = False
    """also what came in through the page and is not taken in yet"""


@dataclass(frozen=True)
class BackupReport:
    """What a backup holds.

    ``left_out``: how many scenes lie outside the workspace, in folders that were named to it; their pictures are not in the backup.
    """

    backup: str
    files: int
    bytes: int
    secrets: bool
    left_out: int


def back_up(
    workspace: Workspace,
    target: Path,
    config: BackupConfig | None = None,
    *,
    progress: Progress = silent,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> BackupReport:
    """Write everything that makes up ``workspace`` to ``target``; it appears there whole, or not at all.

    The catalog is copied first, as it is at one moment, and the files after it: so each of its rows finds its file.

    Args:
        workspace: may be worked in meanwhile.
        target: a file ``NAME.tar``, or a folder, outside the workspace; nothing is there yet.
        config: what goes in.
        progress: told of bytes.
        free_bytes: how much room there is.

    Raises:
        UsageError: there is something at ``target``, or it is in the workspace.
        TilehawkError: too little room.
        Cancelled: by ``progress``; nothing is left of it.
    """
    config = config or BackupConfig()
    target = Path(target).absolute()
    _refuse_place(workspace, target)
    with workspace.exclusive("backup", "a backup"):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_beside(target)
        apart = tempfile.TemporaryDirectory(prefix=TEMPORARY, suffix=f"-{target.name}", dir=target.parent)
        with apart as scratch, _written(target) as writer:
            return _Backup(workspace, target, config, progress).write(writer, Path(scratch), free_bytes)


def _refuse_place(workspace: Workspace, target: Path) -> None:
    if target.exists():
        raise UsageError(f"there is something at {target}", expected="a name that is free", remedy="Name another one, or remove it")
    if target.resolve().is_relative_to(workspace.root.resolve()):
        raise UsageError(f"{target} is in the workspace itself", expected="a place outside it", remedy="Name another disk, if there is one")


@contextmanager
def _written(target: Path) -> Iterator[Writer]:
    if target.suffix == ".tar":
        with atomic_file(target) as temporary, backups.to_tar(temporary) as writer:
            yield writer
    else:
        with atomic_directory(target) as temporary, backups.to_folder(temporary) as writer:
            yield writer


class _Backup:
    def __init__(self, workspace: Workspace, target: Path, config: BackupConfig, progress: Progress) -> None:
        self._workspace, self._target, self._config, self._progress = workspace, target, config, progress
        self._entries: dict[str, Entry] = {}
        self._done = self._total = 0
        self._message = ""

    def write(self, writer: Writer, scratch: Path, free_bytes: Callable[[Path], int]) -> BackupReport:
        root, folders = self._workspace.root, (*FOLDERS_KEPT, *((UPLOADS,) if self._config.uploads else ()))
        self._say("the catalog")
        catalog = scratch / CATALOG
        self._workspace.copy_catalog(catalog, self._tick)
        if not self._config.secrets:
            forget_passwords(catalog)
        whole = [root / name for name in SECRET_FILES if self._config.secrets and (root / name).is_file()]
        units = list(backups.units(root, folders))
        self._total = catalog.stat().st_size + sum(_bytes(path) for unit in (*whole, *units) for path in backups.files_of(unit))
        self._require_room(free_bytes(self._target.parent))
        head = backups.Head(
            NEWEST, version("tilehawk"), time.time(), self._workspace.identity, secrets=self._config.secrets, size=self._total
        ).written()
        writer.add(backups.HEAD, BytesIO(head), len(head), lambda _bytes: None)
        self._add(writer, catalog, CATALOG)
        for unit in (*whole, *units):
            self._add_unit(writer, unit)
        last = backups.manifest(self._entries)
        writer.add(backups.MANIFEST, BytesIO(last), len(last), lambda _bytes: None)
        return BackupReport(
            str(self._target), len(self._entries), sum(each.bytes for each in self._entries.values()), self._config.secrets, self._outside()
        )

    def _add_unit(self, writer: Writer, unit: Path) -> None:
        """Write what is replaced as a whole, of one age: anew where another took its place meanwhile, not at all where it is gone.

        Raises:
            BadInput: it was replaced again and again.
        """
        root = self._workspace.root
        for _ in range(TRIES):
            before, names = _age(unit), []
            with suppress(FileNotFoundError):
                for path in backups.files_of(unit):
                    names.append(path.relative_to(root).as_posix())
                    self._add(writer, path, names[-1])
            if _age(unit) == before:
                return
            for name in names:
                self._entries.pop(name, None)
            if not unit.exists():
                return
        raise BadInput(f"{unit} was replaced again and again", remedy="Make the backup when less is going on")

    def _add(self, writer: Writer, path: Path, name: str) -> None:
        self._say(name.split("/", maxsplit=1)[0])
        with path.open("rb") as stream:
            self._entries[name] = writer.add(name, stream, _bytes(path), self._count)

    def _require_room(self, free: int) -> None:
        if free < self._total:
            raise TilehawkError(
                f"{self._target.parent} has {_gigabytes(free)} free, and the backup needs {_gigabytes(self._total)}",
                expected="room for all of it",
                remedy="Make room, or name another disk",
            )

    def _outside(self) -> int:
        with self._workspace.session(write=False) as session:
            return session.scalar(select(func.count()).select_from(Scene).where(Scene.referenced)) or 0

    def _say(self, message: str) -> None:
        self._message = message
        self._tick()

    def _count(self, more: int) -> None:
        self._done += more
        self._tick()

    def _tick(self) -> None:
        self._progress(min(self._done, self._total), self._total, f"backing up {self._message}")


def _age(unit: Path) -> tuple[int, int] | None:
    """What changes when something else takes the place of ``unit``."""
    try:
        found = unit.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _gigabytes(size: int) -> str:
    return f"{size / 1024**3:.2f} GB"
