"""Archives as an attacker or a bad disk makes them: zip, tar and tar.gz with any names, kinds and sizes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

KINDS = ("zip", "tar", "tar.gz")

HOSTILE_NAMES = (
    "../a.png",
    "../../a.png",
    "x/../../a.png",
    "x/../a.png",
    "..",
    "x/..",
    "../",
    "./../a.png",
    "/a.png",
    "//a.png",
    "/tmp/a.png",
    "/etc/passwd",
    "/vsicurl/http://127.0.0.1:1/a.tif",
    "C:/a.png",
    "c:a.png",
    "C:\\a.png",
    "\\a.png",
    "\\\\server\\share\\a.png",
    "..\\a.png",
    "x\\..\\..\\a.png",
    "x/..\\a.png",
    "a.png\0.txt",
    "\0",
    "a\0/../b.png",
    "\uff0e\uff0e/a.png",
    "\u2024\u2024/a.png",
    "\u2025/a.png",
    "x/\uff0e\uff0e/\uff0e\uff0e/a.png",
    "\uff0fa.png",
    "..\uff0fa.png",
    "..\uff3ca.png",
    "a.png.",
    "a.png ",
    "x./a.png",
    "x /a.png",
    "... /a.png",
    ".../a.png",
    "a\n.png",
    "a\r.png",
    "a\x1b[2J.png",
    "a\u202egnp.tif",
    "a\u200b.png",
    "x" * 2000 + ".png",
    "GOOD.PNG",
)
"""Refused beside a member ``good.png``."""


def write_archive(path: Path, kind: str, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write ``members`` (name as it is to stand in the archive, content) in order."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                entry = zipfile.ZipInfo("placeholder")
                entry.filename = name
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            entry = tarfile.TarInfo("placeholder")
            entry.pax_headers = {"path": name}
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
