"""The names of files that are written for images: below one folder, each its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from engine.imagery.names import name_refusal
from engine.records import ImageLabels

__all__ = ["stems"]

LONGEST_PART = 240
"""Bytes of a file's name that leave room for a suffix."""


def stems(images: Sequence[ImageLabels], reserved: Collection[str] = ()) -> list[str]:
    """For each image the relative path of its files, without the suffix of their kind; no two differ in case alone.

    It is the image's own name without its suffix, or with it where another image would have the same (``a.tif.txt`` beside
    ``a.png.txt``). A name that is no plain relative path, or that is taken all the same, gives way to the image's number from 1. Folders
    with a ``reserved`` name get an underscore.
    """
    plain = [_plain(image.image, reserved) for image in images]
    count = Counter(path.with_suffix("").as_posix().casefold() for path in plain if path is not None)
    used: set[str] = set()
    found = []
    for number, path in enumerate(plain, start=1):
        stem = f"image-{number}"
        if path is not None:
            short = path.with_suffix("").as_posix()
            named = short if count[short.casefold()] == 1 else path.as_posix()
            stem = named if named.casefold() not in used else stem
        used.add(stem.casefold())
        found.append(stem)
    return found


def _plain(name: str, reserved: Collection[str]) -> PurePosixPath | None:
    path = PurePosixPath(name)
    if name_refusal(name) or not path.name or any(len(part.encode()) > LONGEST_PART for part in path.parts):
        return None
    return PurePosixPath(*(f"{part}_" if part in reserved else part for part in path.parts[:-1]), path.name)
