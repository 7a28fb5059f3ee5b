"""Labels in an archive: its label files in a folder of their own, under caps, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from connectors.formats.sources import IMAGE_SUFFIXES
from engine.errors import ArchiveRefused, BadInput
from engine.files import inside
from engine.imagery.archive import ArchiveLimits, read_members, source_kind

__all__ = ["LIMITS", "PREFIX", "unpacked"]

LABEL_SUFFIXES = frozenset(
    {".txt", ".xml", ".json", ".yaml", ".yml", ".names", ".geojson", ".gpkg", ".shp", ".shx", ".dbf", ".prj", ".cpg"}
)
PREFIX = "labels-"
"""Of the names of the folders that are made in ``scratch``: what a killed process leaves there is known by it."""
LIMITS = ArchiveLimits(max_member_bytes=4 << 30, max_total_bytes=16 << 30)


@contextmanager
def unpacked(path: Path, scratch: Path | None = None, limits: ArchiveLimits = LIMITS) -> Iterator[Path]:
    """``path`` itself, or where it is a zip or tar archive a folder with its label files, which is removed afterwards.

    Of a picture there is an empty file, so that readers see its name. Every other file is passed over.

    Args:
        path: a file, a folder or an archive.
        scratch: where the folder is made; None for the system's place.
        limits: caps, counted on the bytes that come out.

    Raises:
        ArchiveRefused: a member has a name that leads elsewhere, is a link, is damaged, or a cap is passed: the archive as a whole.
        BadInput: what the reader raises meanwhile, with the paths as the archive has them.
    """
    if not path.is_file() or source_kind(path) not in ("zip", "tar"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=scratch) as made:
        folder = Path(made)
        _unpack(path, folder, limits)
        try:
            yield folder
        except BadInput as wrong:
            found, expected, remedy = (
                text.replace(f"{folder}/", "").replace(str(folder), "it") for text in (wrong.found, wrong.expected, wrong.remedy)
            )
            raise type(wrong)(f"{path.name}: {found}", expected=expected, remedy=remedy) from wrong


def _unpack(path: Path, folder: Path, limits: ArchiveLimits) -> None:
    for member in read_members(path, limits):
        if member.refusal is not None:
            raise ArchiveRefused(f"{path.name}: {member.name!r} is refused: {member.refusal}", remedy="Pack the labels again")
        suffix = PurePosixPath(member.name).suffix.lower()
        if suffix not in LABEL_SUFFIXES | IMAGE_SUFFIXES:
            continue
        target = inside(folder, member.name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as stream:
                if suffix in LABEL_SUFFIXES:
                    with member.open() as content:
                        content.copy_to(stream)
        except OSError as failed:
            raise ArchiveRefused(f"{path.name}: {member.name!r} cannot be unpacked: {failed.strerror}", remedy="Pack it again") from failed
