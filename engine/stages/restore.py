"""A workspace from a backup, under another name or on another machine, and in the kind of database that is wanted here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from engine.catalog import backups
from engine.catalog.backups import HEAD, MANIFEST, Entry, Head, Reader
from engine.catalog.database import CATALOG
from engine.catalog.schema import Scene, UserRow
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, TilehawkError
from engine.files import TEMPORARY, atomic_directory, sweep_beside
from engine.progress import Progress, silent

__all__ = ["RestoreReport", "restore"]

STAGED = f"{TEMPORARY}restored"
NAMED = 3


@dataclass(frozen=True)
class RestoreReport:
    """What came back.

    ``missing_imagery``: scenes whose files lie outside the workspace and are not on this machine. ``accounts_without_password``: a
    backup without secrets holds none; they get one by ``tilehawk users add``.
    """

    workspace: str
    files: int
    bytes: int
    secrets: bool
    missing_imagery: int
    accounts_without_password: list[str]


def restore(
    backup: Path,
    folder: Path,
    *,
    progress: Progress = silent,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> RestoreReport:
    """Make the workspace of ``backup`` anew at ``folder``; it appears there whole, or not at all.

    Its catalog goes where that of a new workspace would: into a file, or into the PostgreSQL database that is named for it. One of an
    older version is brought forward.

    Args:
        backup: what :func:`engine.stages.backup.back_up` wrote.
        folder: where nothing is yet, or an empty folder.
        progress: told of bytes.
        free_bytes: how much room there is.

    Raises:
        BadInput: ``folder`` is not empty; the backup is damaged, was cut off, or is of a newer Tilehawk.
        TilehawkError: too little room.
        Cancelled: by ``progress``; nothing is left of it.
    """
    backup, folder = Path(backup).absolute(), Path(folder).absolute()
    _refuse_place(folder)
    with backups.opened(backup) as reader:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_beside(folder)
        with atomic_directory(folder) as made:
            staged = made / STAGED
            staged.mkdir()
            head, entries = _unpacked(reader, backup, staged, progress, free_bytes)
            with Workspace.create(made) as workspace:
                _settle(workspace, staged, head, lambda: progress(head.size, head.size, "restoring the catalog"))
                missing, locked = _lacking(workspace)
    return RestoreReport(str(folder), len(entries), sum(each.bytes for each in entries.values()), head.secrets, missing, locked)


def _refuse_place(folder: Path) -> None:
    if folder.is_dir() and folder.is_mount():
        raise BadInput(f"{folder} is a disk of its own", expected="a folder on it", remedy=f"For example {folder / 'workspace'}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not empty", expected="an empty folder, or nothing yet", remedy="Name another folder")


def _unpacked(
    reader: Reader, backup: Path, staged: Path, progress: Progress, free_bytes: Callable[[Path], int]
) -> tuple[Head, dict[str, Entry]]:
    """Write the files of the backup below ``staged``, and hold them against its manifest.

    Raises:
        BadInput: a file is missing or not what the manifest says, or there is no manifest.
    """
    content = iter(reader)
    name, stream = next(content, ("", None))
    if name != HEAD or stream is None:
        raise BadInput(f"{backup} is no backup: it begins with {name!r}", expected=HEAD, remedy="Name what `tilehawk backup` wrote")
    head = Head.read(stream.read(), backup)
    _require_room(staged, head.size, free_bytes(staged))
    done, found, promised = 0, {}, None

    def tick(more: int) -> None:
        nonlocal done
        done += more
        progress(min(done, head.size), head.size, "restoring")

    progress(0, head.size, "restoring")
    for name, stream in content:
        if name == MANIFEST:
            promised = backups.read_manifest(stream.read(), backup)
        else:
            found[name] = backups.copied(name, stream, staged, tick)
    if promised is None:
        raise BadInput(f"the backup {backup} was cut off: it has no {MANIFEST}", remedy="Take another copy of it, or another backup")
    wrong = sorted(name for name, entry in promised.items() if found.get(name) != entry)
    if wrong or CATALOG not in promised:
        named = ", ".join([*wrong[:NAMED], *(["…"] if len(wrong) > NAMED else [])]) or CATALOG
        raise BadInput(f"in the backup {backup} is damaged or missing: {named}", remedy="Take another copy of it, or another backup")
    for name in found.keys() - promised.keys():
        (staged / name).unlink()
    return head, promised


def _settle(workspace: Workspace, staged: Path, head: Head, tick: Callable[[], None]) -> None:
    """Move what was unpacked to where it belongs in the new workspace."""
    apart = staged / f"{TEMPORARY}catalog"
    apart.mkdir()
    workspace.take_over((staged / CATALOG).replace(apart / CATALOG), head.identity, tick)
    shutil.rmtree(apart)
    for path in staged.iterdir():
        place = workspace.root / path.name
        if place.is_dir():
            place.rmdir()
        path.replace(place)
    staged.rmdir()


def _lacking(workspace: Workspace) -> tuple[int, list[str]]:
    with workspace.session(write=False) as session:
        outside = session.scalars(select(Scene.path).where(Scene.referenced))
        locked = session.scalars(select(UserRow.name).where(UserRow.password_hash == "").order_by(UserRow.name))
        return sum(not Path(path).is_file() for path in outside), list(locked)


def _require_room(place: Path, needed: int, free: int) -> None:
    if free < needed:
        raise TilehawkError(
            f"there are {free / 1024**3:.2f} GB free at {place.parent}, and the workspace needs {needed / 1024**3:.2f} GB",
            expected="room for all of it",
            remedy="Make room, or name another disk",
        )
