"""Files that labels are read from: text as UTF-8, and the files below a folder, none of which leads out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.errors import BadInput
from engine.imagery.names import is_system_junk

__all__ = ["IMAGE_SUFFIXES", "dataset_root", "files_below", "read_bytes", "read_json", "read_lines", "refuse_lines"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
LONGEST_TEXT = 256 << 20
"""Bytes of a text file beyond which it is no label file of one image."""
NAMED_LINES = 5


def files_below(folder: Path, suffixes: Iterable[str], *, to_read: bool = True) -> list[Path]:
    """The files below ``folder`` with one of ``suffixes`` (lower case), by path; hidden ones and system junk are passed over.

    Raises:
        BadInput: one of them is a link that leads out of the folder, and it is ``to_read``.
    """
    wanted = frozenset(suffixes)
    root = folder.resolve()
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in wanted or any(part.startswith(".") for part in relative.parts) or is_system_junk(relative.as_posix()):
            continue
        if to_read and not path.resolve().is_relative_to(root):
            raise BadInput(f"{path} is a link that leads out of {folder}", expected="a file below it", remedy="Put the file itself there")
        if path.is_file():
            found.append(path)
    return found


def dataset_root(folder: Path) -> Path:
    """``folder``, or the one folder inside it where it holds nothing else, and so on: archives often have one."""
    while True:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and not is_system_junk(f"{entry.name}/x")]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].is_symlink():
            return folder
        folder = entries[0]


def read_bytes(path: Path, expected: str) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: it cannot be read; ``expected`` says what it should be.
    """
    try:
        return path.read_bytes()
    except OSError as missing:
        raise BadInput(f"{path} cannot be read: {missing.strerror}", expected=expected, remedy="Check the path") from missing


def read_json(path: Path, expected: str) -> Mapping[str, Any]:
    """The JSON object in a file.

    Raises:
        BadInput: it cannot be read, is not JSON, or holds something else.
    """
    try:
        document = json.loads(read_bytes(path, expected))
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
    if len(content) > LONGEST_TEXT:
        raise BadInput(f"{path} has {len(content)} bytes", expected=f"{expected}, {LONGEST_TEXT} bytes at most")
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
