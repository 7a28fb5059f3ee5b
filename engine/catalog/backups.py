"""What a backup is made of: its head and manifest, which files of a workspace belong in it, and the two forms it has on disk."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self

from engine.catalog.database import CATALOG, newer
from engine.catalog.migrations import REVISIONS
from engine.catalog.tile_grids import PREFIX
from engine.errors import BadInput
from engine.files import TEMPORARY, inside

__all__ = [
    "ARRIVING",
    "FOLDERS_KEPT",
    "HEAD",
    "MANIFEST",
    "SECRET_FILES",
    "Entry",
    "Head",
    "Reader",
    "Writer",
    "copied",
    "opened",
    "to_folder",
    "to_tar",
]

FORMAT = 1
HEAD = "tilehawk-backup.json"
"""The first file of a backup: what it is."""
MANIFEST = "manifest.json"
"""The last one: every file with its hash. A backup that lacks it was cut off."""
FOLDERS_KEPT = ("scenes", "weights", "models", "predictions", "exports", "reports")
UPLOADS = "uploads"
ARRIVING = f"{UPLOADS}/arriving"
"""Where uploads are that still come in."""
SECRET_FILES = ("secret.key", "connections.json")
ALLOWED = frozenset({CATALOG, *SECRET_FILES, *FOLDERS_KEPT, UPLOADS})
CHUNK = 1 << 20

Tick = Callable[[int], None]
"""Told of so many more bytes; may raise to stop."""


@dataclass(frozen=True)
class Head:
    """What a backup says of itself before anything else.

    ``schema``: revision of the catalog in it. ``identity``: of the workspace, None where it had none. ``size``: about the bytes in it.
    """

    schema: str
    tilehawk: str
    created: float
    identity: str | None
    secrets: bool
    size: int
    format: int = FORMAT

    @classmethod
    def read(cls, document: bytes, where: Path) -> Self:
        """The head that ``document`` holds.

        Raises:
            BadInput: it is none, or of a newer Tilehawk.
        """
        try:
            found = json.loads(document)
            form, schema = int(found["format"]), str(found["schema"])
        except (ValueError, KeyError, TypeError) as damaged:
            raise _none(where) from damaged
        if form > FORMAT or schema not in REVISIONS:
            raise newer(where, f"a backup of format {form} with schema {schema}", f"format {FORMAT}, schema up to {REVISIONS[-1]}")
        try:
            return cls(**found)
        except TypeError as damaged:
            raise _none(where) from damaged

    def written(self) -> bytes:
        """As it stands in the backup."""
        return json.dumps(asdict(self), indent=2).encode()


@dataclass(frozen=True)
class Entry:
    """A file in a backup: its SHA-256 and its bytes."""

    sha256: str
    bytes: int


class Writer(Protocol):
    """Where a backup goes."""

    def add(self, name: str, stream: IO[bytes], size: int, tick: Tick) -> Entry:
        """Write ``size`` bytes of ``stream`` as the file ``name``; one of that name from before no longer counts."""


class Reader(Protocol):
    """Where a backup comes from: pairs of a name and its content, in order, the head first and the manifest last."""

    def __iter__(self) -> Iterator[tuple[str, IO[bytes]]]: ...


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def add(self, name: str, stream: IO[bytes], size: int, tick: Tick) -> Entry:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        counted = _Counted(stream, size, tick)
        self._archive.addfile(member, counted)
        return counted.entry(name)

    def __iter__(self) -> Iterator[tuple[str, IO[bytes]]]:
        for member in self._archive:
            content = self._archive.extractfile(member) if member.isreg() else None
            if content is None:
                raise BadInput(f"{member.name!r} in the backup is no regular file", remedy="It was not made by tilehawk backup")
            yield member.name, content


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, name: str, stream: IO[bytes], size: int, tick: Tick) -> Entry:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        counted = _Counted(stream, size, tick)
        with _private(target) as copy:
            while chunk := counted.read(CHUNK):
                copy.write(chunk)
        return counted.entry(name)

    def __iter__(self) -> Iterator[tuple[str, IO[bytes]]]:
        last = self._root / MANIFEST
        files = [path for path in sorted(self._root.rglob("*")) if path.is_file() and path not in {last, self._root / HEAD}]
        for path in (self._root / HEAD, *files, *([last] if last.is_file() else [])):
            with inside(self._root, path.relative_to(self._root)).open("rb") as content:
                yield path.relative_to(self._root).as_posix(), content


class _Counted:
    """The first ``size`` bytes of a stream, hashed as they are read."""

    def __init__(self, stream: IO[bytes], size: int, tick: Tick) -> None:
        self._stream, self._left, self._size, self._tick = stream, size, size, tick
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(min(self._left, CHUNK if size < 0 else size))
        self._left -= len(chunk)
        self._digest.update(chunk)
        self._tick(len(chunk))
        return chunk

    def entry(self, name: str) -> Entry:
        if self._left:
            raise BadInput(f"{name} became shorter while it was read", remedy="Make the backup again")
        return Entry(self._digest.hexdigest(), self._size)


@contextmanager
def to_tar(path: Path) -> Iterator[Writer]:
    """Write a backup as one tar file, readable by its owner alone."""
    with _private(path) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        yield _Tar(archive)


@contextmanager
def to_folder(path: Path) -> Iterator[Writer]:
    """Write a backup as a folder that its owner alone can read; it is there already, and empty."""
    path.chmod(0o700)
    yield _Folder(path)


def opened(path: Path) -> AbstractContextManager[Reader]:
    """Read the backup at ``path``, a tar file or a folder.

    Raises:
        BadInput: there is none.
    """
    if path.is_dir():
        if not (path / HEAD).is_file():
            raise _none(path)
        return _as_context(_Folder(path))
    try:
        archive = tarfile.open(path, mode="r:")  # noqa: SIM115 - closed by whoever enters what is returned
    except (OSError, tarfile.TarError) as refused:
        raise _none(path) from refused
    return _tar_context(archive, path)


@contextmanager
def _as_context(reader: Reader) -> Iterator[Reader]:
    yield reader


@contextmanager
def _tar_context(archive: tarfile.TarFile, path: Path) -> Iterator[Reader]:
    with closing(archive):
        try:
            yield _Tar(archive)
        except (tarfile.TarError, EOFError) as damaged:
            raise BadInput(f"the backup {path} is damaged: {damaged}", remedy="Take another copy of it") from damaged


def copied(name: str, content: IO[bytes], root: Path, tick: Tick) -> Entry:
    """Write the content of a backup's file below ``root``, readable by its owner alone where it is a secret.

    Raises:
        BadInput: its name leads out of ``root``, or is none that a backup has.
    """
    target = inside(root, name)
    if name.split("/", maxsplit=1)[0] not in ALLOWED or target == root.resolve():
        raise BadInput(
            f"the file {name!r} in the backup", expected=f"one below {sorted(ALLOWED)}", remedy="It was not made by tilehawk backup"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    digest, size = hashlib.sha256(), 0
    with _private(target) if name in SECRET_FILES else target.open("wb") as copy:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            copy.write(chunk)
            tick(len(chunk))
    return Entry(digest.hexdigest(), size)


def manifest(entries: dict[str, Entry]) -> bytes:
    """The last file of a backup."""
    return json.dumps({"files": {name: asdict(entry) for name, entry in entries.items()}}, indent=1).encode()


def read_manifest(document: bytes, where: Path) -> dict[str, Entry]:
    """The files that a backup's last file names.

    Raises:
        BadInput: it is damaged.
    """
    try:
        return {name: Entry(**entry) for name, entry in json.loads(document)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as damaged:
        raise BadInput(f"the manifest of the backup {where} is damaged", remedy="Take another copy of it") from damaged


def units(root: Path, folders: tuple[str, ...]) -> Iterator[Path]:
    """What is replaced as a whole below ``folders``: a folder of a model, a report; a file that lies there by itself.

    Uploads that are still arriving are left out: they grow while they are copied; features of tiles too: they can be computed again.
    """
    for folder in folders:
        for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else []:
            if (
                not path.name.startswith(TEMPORARY)
                and not path.is_symlink()
                and path != root / ARRIVING
                and not path.name.startswith(PREFIX)
            ):
                yield path


def files_of(unit: Path) -> list[Path]:
    """The files of a unit; links and what is half written are left out."""
    found = [unit] if unit.is_file() else sorted(unit.rglob("*"))
    return [path for path in found if path.is_file() and not path.is_symlink() and not _half_written(path, unit)]


def _half_written(path: Path, unit: Path) -> bool:
    return any(part.startswith(TEMPORARY) for part in path.relative_to(unit).parts)


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")


def _none(where: Path) -> BadInput:
    return BadInput(f"{where} is no backup", expected="what `tilehawk backup` wrote: a tar file or a folder", remedy="Name that")
