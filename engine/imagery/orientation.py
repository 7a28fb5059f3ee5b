"""The turn that a camera notes in a picture's EXIF (TIFF tag 274): we ignore it, other tools turn the picture by it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["is_turned", "set_upright"]

ORIENTATION, SHORT, UPRIGHT = 0x0112, 3, 1
MOST_ENTRIES = 4096
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
EXIF = b"Exif\x00\x00"
LONGEST_EXIF = 1 << 20
"""Bytes of a PNG's chunk of EXIF beyond which it is left alone."""


@dataclass(frozen=True)
class _Note:
    """Where the turn stands in the file, as two bytes, and what means none; ``chunk`` (place, length) is that of a PNG, with a checksum."""

    at: int
    upright: bytes
    chunk: tuple[int, int] | None = None


def is_turned(file: Path) -> bool:
    """Whether a JPEG, PNG or TIFF file notes another orientation than its pixels have; False for anything else, and for BigTIFF."""
    with file.open("rb") as stream:
        return _find(stream) is not None


def set_upright(file: Path) -> None:
    """Note in ``file`` that its pixels stand upright; nothing else in it changes."""
    with file.open("r+b") as stream:
        note = _find(stream)
        if note is None:
            return
        stream.seek(note.at)
        stream.write(note.upright)
        if note.chunk is not None:
            place, length = note.chunk
            stream.seek(place + 4)
            checksum = zlib.crc32(stream.read(4 + length))
            stream.write(struct.pack(">I", checksum))


def _find(stream: IO[bytes]) -> _Note | None:
    head = stream.read(8)
    try:
        if head.startswith(b"\xff\xd8"):
            return _in_jpeg(stream)
        if head == PNG_HEAD:
            return _in_png(stream)
        return _in_tiff(stream, 0)
    except struct.error:
        return None


def _in_jpeg(stream: IO[bytes]) -> _Note | None:
    """The note in the first segment APP1 that holds EXIF; those segments stand before the pixels (EXIF 2.32, section 4.5.4)."""
    place = 2
    while True:
        stream.seek(place)
        mark, kind, length = struct.unpack(">BBH", stream.read(4))
        if mark != 0xFF or kind in (0xD9, 0xDA):
            return None
        if kind == 0xE1 and stream.read(len(EXIF)) == EXIF:
            return _in_tiff(stream, place + 4 + len(EXIF))
        place += 2 + length


def _in_png(stream: IO[bytes]) -> _Note | None:
    place = len(PNG_HEAD)
    while True:
        stream.seek(place)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if kind == b"IEND" or (kind == b"eXIf" and length > LONGEST_EXIF):
            return None
        if kind == b"eXIf":
            note = _in_tiff(stream, place + 8)
            return None if note is None else _Note(note.at, note.upright, (place, length))
        place += 12 + length


def _in_tiff(stream: IO[bytes], base: int) -> _Note | None:
    """The note in the first directory of the TIFF structure that begins at ``base``."""
    stream.seek(base)
    order = {b"II": "<", b"MM": ">"}.get(stream.read(2))
    if order is None:
        return None
    magic, directory = struct.unpack(f"{order}HI", stream.read(6))
    if magic != 42:
        return None
    stream.seek(base + directory)
    (entries,) = struct.unpack(f"{order}H", stream.read(2))
    for number in range(min(entries, MOST_ENTRIES)):
        tag, kind, count, value = struct.unpack(f"{order}HHIH2x", stream.read(12))
        if tag == ORIENTATION:
            at = base + directory + 2 + 12 * number + 8
            turned = kind == SHORT and count == 1 and value != UPRIGHT
            return _Note(at, struct.pack(f"{order}H", UPRIGHT)) if turned else None
    return None
