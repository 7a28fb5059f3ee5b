"""Files that are either old or complete: atomic writes, hashes and containment, the one place for each."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from engine.errors import BadInput

__all__ = [
    "atomic_directory",
    "atomic_file",
    "inside",
    "place",
    "sha256_of",
    "sweep_beside",
    "sweep_temporary",
    "write_bytes",
    "write_json",
    "write_lines",
    "write_text",
]

TEMPORARY = ".tmp-"
REPLACED = f"{TEMPORARY}was-"
"""Begins the name of a directory that is just being replaced."""
SYNCED_AT_ONCE = 16
_fault_points_passed = 0


def _fault_point() -> None:
    """Die here when ``TILEHAWK_CRASH_AT`` counts this write, fsync or rename: the crash tests walk through all of them."""
    crash_at = os.environ.get("TILEHAWK_CRASH_AT")
    if crash_at is None:
        return
    global _fault_points_passed
    _fault_points_passed += 1
    if _fault_points_passed == int(crash_at):
        sys.stderr.flush()
        os._exit(137)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_beside(target: Path, prefix: str = TEMPORARY) -> Path:
    return target.parent / f"{prefix}{secrets.token_hex(6)}-{target.name}"


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on a clean exit it is synced and renamed to ``target``, else removed.

    A reader of ``target`` sees the old content or the whole new one, after a crash at any point too.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(target)
    try:
        yield temporary
        _fault_point()
        _fsync(temporary)
        _fault_point()
        temporary.replace(target)
        _fault_point()
        _fsync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def place(files: Mapping[Path, Path]) -> None:
    """Sync whole files and rename each, from key to value on the same file system; folders of the values must exist.

    Many at once are synced in little more than the time of one.
    """
    if not files:
        return
    _fault_point()
    with ThreadPoolExecutor(SYNCED_AT_ONCE) as threads:
        list(threads.map(_fsync, files))
    for written, target in files.items():
        _fault_point()
        written.replace(target)
    _fault_point()
    for folder in {target.parent for target in files.values()}:
        _fsync(folder)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``target`` on a clean exit, and is removed otherwise.

    ``target`` may exist: it is replaced as a whole. Between the two renames of a replacement ``target`` is absent, never mixed; where the
    second one fails, or never came, the old one is put back: at once, or by the next sweep.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(target)
    replaced = _temporary_beside(target, REPLACED)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _fault_point()
            _fsync(path)
        _fsync(temporary)
        _fault_point()
        if target.exists():
            target.replace(replaced)
            _fault_point()
        temporary.replace(target)
        _fault_point()
        _fsync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.exists():
            _put_back_or_remove(replaced, target)


def _put_back_or_remove(replaced: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        replaced.replace(target)


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` atomically."""
    with atomic_file(target) as temporary:
        _fault_point()
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write ``content`` to ``target`` atomically, as UTF-8."""
    write_bytes(target, content.encode())


def write_lines(target: Path, lines: Iterable[str]) -> None:
    """Write ``lines``, without their ends, to ``target`` atomically, as UTF-8; no more than one of them is held at a time."""
    with atomic_file(target) as temporary:
        _fault_point()
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)


def write_json(target: Path, document: object) -> None:
    """Write ``document`` to ``target`` atomically as indented JSON; NaN and infinities are refused with ValueError."""
    write_text(target, json.dumps(document, indent=2, allow_nan=False) + "\n")


def sweep_temporary(directory: Path) -> int:
    """Remove what a crash left behind directly in ``directory``, and put back what it had not yet replaced; returns how many entries."""
    return _swept(directory.glob(f"{TEMPORARY}*"))


def sweep_beside(target: Path) -> int:
    """The same of ``target`` itself alone, while nobody else writes it."""
    named = re.compile(rf"{re.escape(TEMPORARY)}(was-)?\w+-{re.escape(target.name)}")
    return _swept(path for path in target.parent.glob(f"{TEMPORARY}*") if named.fullmatch(path.name))


def _swept(leftovers: Iterable[Path]) -> int:
    swept = 0
    for leftover in leftovers:
        if leftover.name.startswith(REPLACED):
            name = leftover.name.removeprefix(REPLACED).partition("-")[2]
            _put_back_or_remove(leftover, leftover.parent / name)
        elif leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
        swept += 1
    return swept


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def inside(root: Path, relative: str | Path) -> Path:
    """The resolved path of ``relative`` under ``root``.

    Raises:
        BadInput: ``relative`` leads out of ``root``, by ``..``, an absolute path or a symbolic link.
    """
    root = root.resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise BadInput(
            f"the path {str(relative)!r} leads out of {root}", expected="a path inside it", remedy="Name a file below that folder"
        )
    return path
