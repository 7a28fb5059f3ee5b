"""Files that labels are read from: text as UTF-8, and the files below a folder, none of which leads out of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import BadInput
from engine.imagery.names import is_system_junk

__all__ = [
    "IMAGE_SUFFIXES",
    "dataset_root",
    "files_below",
    "head_of",
    "read_bytes",
    "read_json",
    "read_lines",
    "refuse_lines",
    "require_inside",
    "unreadable",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
LONGEST_TEXT = 256 << 20
"""Bytes of a text or XML file beyond which it is no label file of one image."""
LONGEST_JSON = 2 << 30
"""Bytes of a JSON file beyond which its objects would not fit into memory."""
HEAD = 1 << 16
"""Bytes at the beginning of a file that tell its format."""
NAMED_LINES = 5


def files_below(folder: Path, suffixes: Iterable[str], *, to_read: bool = True) -> list[Path]:
    """The files below ``folder`` with one of ``suffixes`` (lower case), by path; hidden ones and system junk are passed over.

    Raises:
        BadInput: one of them is a link that leads out of the folder, and it is ``to_read``; or a folder cannot be looked into.
    """
    wanted = frozenset(suffixes)
    found = []
    for path in sorted(_entries_below(folder)):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in wanted or any(part.startswith(".") for part in relative.parts) or is_system_junk(relative.as_posix()):
            continue
        if to_read:
            require_inside(path, folder)
        if path.is_file():
            found.append(path)
    return found


def _entries_below(folder: Path) -> Iterator[Path]:
    def refuse(failed: OSError) -> None:
        raise unreadable(Path(failed.filename or folder), failed)

    for place, folders, files in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in (*folders, *files))


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of ``folder``.

    Raises:
        BadInput: ``path`` is one.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"{path} is a link that leads out of {folder}", expected="a file below it", remedy="Put the file itself there")


def unreadable(path: Path, failed: OSError, expected: str = "") -> BadInput:
    """The error for a file or folder that the system does not let us read."""
    return BadInput(f"{path} cannot be read: {failed.strerror}", expected=expected, remedy="Check the path, and who may read it")


def dataset_root(folder: Path) -> Path:
    """``folder``, or the one folder inside it where it holds nothing else, and so on: archives often have one.

    Raises:
        BadInput: one of them cannot be looked into.
    """
    while True:
        try:
            entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and not is_system_junk(f"{entry.name}/x")]
        except OSError as failed:
            raise unreadable(folder, failed) from failed
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].is_symlink():
            return folder
        folder = entries[0]


def head_of(path: Path) -> bytes:
    """The first :data:`HEAD` bytes of a file.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError as failed:
        raise unreadable(path, failed) from failed


def read_bytes(path: Path, expected: str, most: int = LONGEST_TEXT) -> bytes:
    """The bytes of a file, no more than ``most``.

    Raises:
        BadInput: it cannot be read, or is longer; ``expected`` says what it should be.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(most + 1) if size <= most else b""
    except OSError as failed:
        raise unreadable(path, failed, expected) from failed
    if max(size, len(content)) > most:
        raise BadInput(f"{path} has {max(size, len(content))} bytes", expected=f"{expected}, {most} bytes at most", remedy="Split it")
    return content


def read_json(path: Path, expected: str) -> Mapping[str, Any]:
    """The JSON object in a file of :data:`LONGEST_JSON` bytes at most.

    Raises:
        BadInput: it cannot be read, is too long, is not JSON, or holds something else.
    """
    try:
        document = json.loads(read_bytes(path, expected, LONGEST_JSON))
    except (ValueError, RecursionError) as damaged:
        raise BadInput(f"{path} is not JSON: {damaged}", expected=expected, remedy="Export it again") from damaged
    if not isinstance(document, dict):
        raise BadInput(f"{path} holds a {type(document).__name__}", expected=f"{expected}: a JSON object")
    return document


def read_lines(path: Path, expected: str) -> list[str]:
    """The lines of a text file, UTF-8 with or without its mark.

    Raises:
        BadInput: it cannot be read, is too long for its kind, or is no UTF-8.
    """
    content = read_bytes(path, expected)
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as wrong:
        raise BadInput(
            f"{path} is no UTF-8 text: byte {wrong.start} is 0x{content[wrong.start]:02x}", expected=expected, remedy="Save it as UTF-8"
        ) from wrong


def refuse_lines(problems: Iterable[str], expected: str) -> None:
    """Refuse what was read where lines of it make no sense, naming the first and counting all.

    Raises:
        BadInput: there is a problem; each is written ``file, line N: what was found``.
    """
    found = list(problems)
    if found:
        more = f"; and {len(found) - NAMED_LINES} more lines" if len(found) > NAMED_LINES else ""
        raise BadInput(
            "; ".join(found[:NAMED_LINES]) + more, expected=expected, remedy="Mend these lines, or leave them out; nothing was read"
        )
