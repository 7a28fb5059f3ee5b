"""Bounded reading of what imagery comes in: zip, tar, tar.gz, tar.bz2, a folder, a single file. Nothing is ever extracted by name.

One protocol for all: :func:`read_members` yields the regular files, each to be read through a counted stream. What cannot be
taken (a link, a device, an encrypted entry, a deceptive name) is yielded with its refusal; what makes the whole untrustworthy
(cut off, overlapping entries, over a cap) raises :class:`engine.errors.ArchiveRefused`. Caps count bytes as they are inflated;
sizes that headers claim are not believed.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from engine.errors import ArchiveRefused, BadInput, UnreadableImage
from engine.imagery.names import MemberNames, is_system_junk, printable, text_refusal

__all__ = ["ArchiveLimits", "Member", "MemberReader", "SourceKind", "read_members", "source_kind"]

SourceKind = Literal["zip", "tar", "folder", "file"]

CHUNK = 1 << 20
CHUNKS_PER_TICK = 64
RATIO_FREE_BYTES = 64 << 20
"""Inflated bytes below which no ratio is judged: small files of one colour compress a thousandfold."""
HEADER_BYTES = 1 << 20
"""What the headers of one tar member may take, long names and extended attributes included."""
_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class ArchiveLimits:
    """Caps on one source."""

    max_members: int = 1_000_000
    """entries, of any kind"""
    max_member_bytes: int = 16 << 30
    """inflated bytes of one member"""
    max_total_bytes: int = 512 << 30
    """inflated bytes in all"""
    max_ratio: float = 200.0
    """inflated bytes by compressed bytes, judged from 64 MiB on"""


class MemberReader:
    """The bytes of one member, counted as they are inflated.

    Raises (on reading):
        UnreadableImage: the member is damaged, or over a cap of its own.
        ArchiveRefused: the archive is cut off, or over a cap of the whole.
    """

    def __init__(self, read: Callable[[int], bytes], close: Callable[[], None] = lambda: None) -> None:
        self._read = read
        self._close = close
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, or fewer at the end; they will be read again."""
        while len(self._ahead) < size and (more := self._read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = CHUNK) -> bytes:
        """At most ``size`` bytes; empty at the end."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._read(size)

    def copy_to(self, target: IO[bytes] | None, tick: Callable[[], None] = lambda: None) -> str:
        """Write all that is left to ``target``, where there is one; returns the hexadecimal SHA-256 of it.

        ``tick`` is called every few chunks and may raise to stop.
        """
        digest = hashlib.sha256()
        for count in itertools.count(1):
            chunk = self.read()
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)
            if target is not None:
                target.write(chunk)
            if count % CHUNKS_PER_TICK == 0:
                tick()
        raise AssertionError

    def __enter__(self) -> MemberReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()


@dataclass(frozen=True)
class Member:
    """One entry of a source, valid until the next one is asked for."""

    name: str
    """as written in the archive, or relative to the folder; never to be used as a path"""
    open: Callable[[], MemberReader]
    refusal: str | None = None
    """why it must not be read, or None"""
    path: Path | None = None
    """the file itself where it lies in a folder"""


def _refused_member(name: str, reason: str) -> Member:
    def refuse() -> MemberReader:
        raise UnreadableImage(f"{printable(name)!r} is refused: {reason}")

    return Member(printable(name), refuse, refusal=reason)


def source_kind(source: Path) -> SourceKind:
    """What ``source`` is, by its content and not by its name; ``file`` for anything that is no archive.

    Raises:
        BadInput: there is no such file or folder, or it is neither, or it cannot be read.
        ArchiveRefused: an archive of a kind that is not read.
    """
    try:
        if source.is_dir():
            return "folder"
        if not source.is_file():
            raise BadInput(f"no file or folder {str(source)!r}", expected="an archive, a folder or an image", remedy="Check the path")
        with source.open("rb") as stream:
            head = stream.read(tarfile.BLOCKSIZE)
    except OSError as failed:
        raise BadInput(f"{str(source)!r} cannot be read: {failed.strerror}", remedy="Check the path, and who may read it") from failed
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or _is_tar_header(head):
        return "tar"
    for magic, kind in ((b"\xfd7zXZ\x00", "xz"), (b"7z\xbc\xaf'\x1c", "7z"), (b"Rar!", "rar"), (b"\x28\xb5\x2f\xfd", "zstandard")):
        if head.startswith(magic):
            raise ArchiveRefused(
                f"{source.name!r} is an {kind} archive", expected="zip, tar, tar.gz or tar.bz2", remedy="Pack it again as one of these"
            )
    return "file"


def _is_tar_header(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def read_members(source: Path, limits: ArchiveLimits, *, exclude: Path | None = None) -> Iterator[Member]:
    """Yield the files of ``source`` in an order that depends on its content alone; system junk and folders are passed over.

    Args:
        source: zip, tar, tar.gz, tar.bz2, a folder, or a single file.
        limits: caps; they hold for this pass.
        exclude: a folder that is not entered (the workspace, where it lies within the source).

    Raises:
        ArchiveRefused: cut off, damaged, or over a cap; members yielded before may have been fine.
    """
    kind = source_kind(source)
    if kind == "zip":
        members = _zip_members(source, limits)
    elif kind == "tar":
        members = _tar_members(source, limits)
    elif kind == "folder":
        members = _folder_members(source, exclude)
    else:
        members = iter([_file_member(source, source.name)])
    for count, member in enumerate(members, start=1):
        if count > limits.max_members:
            raise ArchiveRefused(f"{source.name!r} holds more than {limits.max_members} entries", remedy="Split it, or raise max_members")
        if not is_system_junk(member.name):
            yield member


def _damaged(source: Path, why: object) -> ArchiveRefused:
    return ArchiveRefused(f"{source.name!r} is cut off or damaged ({why})", expected="a whole archive", remedy="Copy or download it again")


def _over_ratio(inflated: int, compressed: int, limits: ArchiveLimits) -> bool:
    return inflated > RATIO_FREE_BYTES and inflated > limits.max_ratio * max(compressed, 1)


def _zip_members(source: Path, limits: ArchiveLimits) -> Iterator[Member]:
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
        except (*_ARCHIVE_ERRORS, NotImplementedError) as error:
            raise _damaged(source, error) from error
        entries = archive.infolist()
        _refuse_overlaps(source, entries, archive.start_dir)
        names = MemberNames()
        inflated = _ZipBudget(source, limits)
        for entry in sorted(entries, key=lambda entry: (entry.orig_filename, entry.header_offset)):
            if entry.orig_filename.endswith("/"):
                continue
            refusal = _zip_refusal(entry) or names.refusal(entry.orig_filename)
            if refusal:
                yield _refused_member(entry.orig_filename, refusal)
            else:
                yield Member(entry.orig_filename, lambda entry=entry: inflated.reader(archive, entry))  # type: ignore[misc]


def _refuse_overlaps(source: Path, entries: list[zipfile.ZipInfo], end: int) -> None:
    """Entries that share bytes multiply the ratio (Fifield, A better zip bomb, WOOT 2019)."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    limits = [*(entry.header_offset for entry in ordered), end][1:]
    for entry, following in zip(ordered, limits, strict=True):
        if entry.header_offset + zipfile.sizeFileHeader + len(entry.filename) + entry.compress_size > following:  # type: ignore[attr-defined]
            raise ArchiveRefused(f"{source.name!r} has overlapping entries (at {printable(entry.orig_filename)!r})", remedy="Pack it again")


def _zip_refusal(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "a symbolic link"
    if kind not in (0, stat.S_IFREG):
        return "no regular file"
    if entry.flag_bits & 0x1:
        return "encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {entry.compress_type}; stored and deflated entries are read"
    return None


class _ZipBudget:
    """Counts what is inflated from one zip in one pass."""

    def __init__(self, source: Path, limits: ArchiveLimits) -> None:
        self._source = source
        self._limits = limits
        self._total = 0

    def reader(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> MemberReader:
        name = printable(entry.orig_filename)
        try:
            stream = archive.open(entry)
        except (*_ARCHIVE_ERRORS, NotImplementedError, RuntimeError) as error:
            raise UnreadableImage(f"{name!r} is damaged in the archive ({error})") from error
        inflated = 0

        def read(size: int) -> bytes:
            nonlocal inflated
            try:
                data = stream.read(size)
            except _ARCHIVE_ERRORS as error:
                raise UnreadableImage(f"{name!r} is damaged in the archive ({error})") from error
            inflated += len(data)
            self._total += len(data)
            if inflated > self._limits.max_member_bytes:
                raise UnreadableImage(
                    f"{name!r} inflates to more than {self._limits.max_member_bytes} bytes", remedy="Raise max_member_bytes"
                )
            if _over_ratio(inflated, entry.compress_size, self._limits):
                raise UnreadableImage(f"{name!r} inflates more than {self._limits.max_ratio:g} times", remedy="Raise max_ratio")
            if self._total > self._limits.max_total_bytes:
                raise ArchiveRefused(
                    f"{self._source.name!r} inflates to more than {self._limits.max_total_bytes} bytes",
                    remedy="Split it, or raise max_total_bytes",
                )
            return data

        return MemberReader(read, stream.close)


class _TarStream:
    """The inflated bytes of a tar, counted; what tarfile reads from."""

    def __init__(self, source: Path, raw: IO[bytes], limits: ArchiveLimits) -> None:
        self._source = source
        self._raw = raw
        self._limits = limits
        head = raw.read(3)
        raw.seek(0)
        self._inflated: IO[bytes] | gzip.GzipFile | bz2.BZ2File = raw
        if head[:2] == b"\x1f\x8b":
            self._inflated = gzip.GzipFile(fileobj=raw)
        elif head == b"BZh":
            self._inflated = bz2.BZ2File(raw)
        self._position = 0
        self._tail = b""
        self.ceiling = 2 * HEADER_BYTES

    def read(self, size: int) -> bytes:
        data = self._inflated.read(size)
        self._position += len(data)
        self._tail = (self._tail + data)[-2 * tarfile.RECORDSIZE :]
        if self._position > self._limits.max_total_bytes:
            raise ArchiveRefused(
                f"{self._source.name!r} inflates to more than {self._limits.max_total_bytes} bytes",
                remedy="Split it, or raise max_total_bytes",
            )
        if _over_ratio(self._position, self._raw.tell(), self._limits):
            raise ArchiveRefused(f"{self._source.name!r} inflates more than {self._limits.max_ratio:g} times", remedy="Raise max_ratio")
        if self._position > self.ceiling:
            raise ArchiveRefused(f"{self._source.name!r} has member headers above {HEADER_BYTES} bytes", remedy="Pack it again")
        return data

    def ends_at(self, offset: int) -> bool:
        """Whether the block of zeros that ends a tar lies at ``offset``; tarfile also stops, silently, where a tar is cut off."""
        start = offset - (self._position - len(self._tail))
        block = self._tail[start : start + tarfile.BLOCKSIZE] if start >= 0 else b""
        return block == bytes(tarfile.BLOCKSIZE)

    def drain(self) -> None:
        """Read the rest, for the checksum at the end of a compressed stream."""
        while self._position < self.ceiling - CHUNK and self.read(tarfile.RECORDSIZE):
            pass


def _tar_members(source: Path, limits: ArchiveLimits) -> Iterator[Member]:
    names = MemberNames()
    with source.open("rb") as raw:
        stream = _TarStream(source, raw, limits)
        with ExitStack() as stack:
            with _tar_errors(source):
                archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))  # type: ignore[call-overload]
            while True:
                with _tar_errors(source):
                    entry = archive.next()
                    archive.members.clear()
                    stream.ceiling = archive.offset + 2 * HEADER_BYTES
                if entry is None:
                    break
                if not entry.isdir():
                    yield _tar_member(source, archive, entry, names, limits)
            if not stream.ends_at(archive.offset):
                raise _damaged(source, "no end of archive where the last member ends")
            with _tar_errors(source):
                stream.drain()


@contextmanager
def _tar_errors(source: Path) -> Iterator[None]:
    try:
        yield
    except _ARCHIVE_ERRORS as error:
        raise _damaged(source, error) from error


def _tar_member(source: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo, names: MemberNames, limits: ArchiveLimits) -> Member:
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.issparse():
        return _refused_member(entry.name, "a sparse file" if entry.issparse() else _TAR_KINDS.get(entry.type, "no regular file"))
    refusal = names.refusal(entry.name)
    if refusal is None and entry.size > limits.max_member_bytes:
        refusal = f"{entry.size} bytes, above max_member_bytes of {limits.max_member_bytes}"
    if refusal:
        return _refused_member(entry.name, refusal)

    def open_entry() -> MemberReader:
        stream = archive.extractfile(entry)
        assert stream is not None

        def read(size: int) -> bytes:
            with _tar_errors(source):
                return stream.read(size)

        return MemberReader(read, stream.close)

    return Member(entry.name.removeprefix("./"), open_entry)


def _folder_members(root: Path, exclude: Path | None) -> Iterator[Member]:
    excluded = exclude.resolve() if exclude else None
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise ArchiveRefused(f"{root.name!r} cannot be read ({error.strerror})", expected="a folder that may be read") from error
            yield _refused_member(folder.relative_to(root).as_posix(), f"a folder that cannot be read ({error.strerror})")
            continue
        folders = []
        for entry in ordered:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if path.resolve() != excluded:
                    folders.append(path)
            else:
                yield _file_member(path, path.relative_to(root).as_posix())
        pending.extend(reversed(folders))


def _file_member(path: Path, name: str) -> Member:
    unusable = text_refusal(name) or text_refusal(str(path)[-1000:])
    if unusable:
        return _refused_member(name, unusable)
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        return _refused_member(name, "a symbolic link" if stat.S_ISLNK(mode) else "no regular file")

    def open_file() -> MemberReader:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UnreadableImage(f"{name!r} cannot be opened ({error.strerror})") from error
        stream = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            stream.close()
            raise UnreadableImage(f"{name!r} is no regular file any more")
        return MemberReader(stream.read, stream.close)

    return Member(name, open_file, path=path)
