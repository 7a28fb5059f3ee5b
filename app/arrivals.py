"""Files that come in pieces: what has arrived is on disk, and goes on there after a lost connection, a reload or a kill.

An upload under way is ``uploads/arriving/ID.json``, what is known of it, beside the folder ``uploads/arriving/ID`` with the file. The
record is written after each piece is safely on disk, so what lies in the file beyond it is cut off when the next piece comes. One that
was handed over is the folder ``uploads/ID``, until the job that takes it in removes it, or it was given up a week ago.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app.announcements import Announcement, Arrival, UploadLimits, UploadRefused, in_words, inert_name
from app.bodies import CHUNK_BYTES, UPLOAD_SECONDS
from engine.catalog.backups import ARRIVING
from engine.catalog.workspace import Workspace
from engine.files import write_json

if TYPE_CHECKING:
    from app.jobs import Job

__all__ = ["Arrivals"]

KEPT_SECONDS = 7 * 86400.0
"""How long an upload stays after it was handed over to a job that failed or was cancelled: for so long the job can go on."""
KEPT_NAME = re.compile(r"[0-9a-f]{32}")
GIVEN_UP = frozenset({"failed", "cancelled"})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Arrivals:
    """The uploads under way in a workspace; may be used by many threads, and all that it knows is on disk.

    Args:
        workspace: whose.
        limits: caps.
        free_bytes: how much the disk of a folder has left.
    """

    def __init__(
        self, workspace: Workspace, limits: UploadLimits, *, free_bytes: Callable[[Path], int] = lambda at: shutil.disk_usage(at).free
    ) -> None:
        self._kept, self._folder = workspace.uploads, workspace.root / ARRIVING
        self._limits, self._free_bytes = limits, free_bytes
        self._turn = threading.Lock()
        self._turns = [threading.Lock() for _ in range(limits.arriving)]

    def of(self, by: str) -> list[Arrival]:
        """The uploads of somebody, oldest first."""
        return [arrival for arrival in self._all() if arrival.by == by]

    def get(self, upload_id: str, by: str) -> Arrival:
        """One upload of somebody.

        Raises:
            UploadRefused: there is none.
        """
        arrival = self._read(self._record(upload_id))
        if arrival is None or arrival.by != by:
            raise UploadRefused(HTTPStatus.NOT_FOUND, "no such upload under way", remedy="Choose the file again")
        return arrival

    def begin(self, announced: Announcement, by: str) -> Arrival:
        """A place for a file; the one it has already where the same person began the same file before.

        Raises:
            UploadRefused: it is too large, too many are under way, or the disk has not the space.
        """
        self.sweep()
        with self._turn:
            under_way = self._all()
            for arrival in under_way:
                if (
                    arrival.by == by
                    and Announcement.model_validate(arrival.model_dump(include=set(Announcement.model_fields))) == announced
                ):
                    return arrival
            self._refuse_excess(announced, under_way)
            arrival = Arrival(**announced.model_dump(), id=uuid.uuid4().hex, by=by)
            file = self._file(arrival)
            file.parent.mkdir(parents=True)
            file.touch()
            self._write(arrival)
            return arrival

    def append(self, upload_id: str, by: str, offset: int, piece: bytes, checksum: int) -> Arrival:
        """Add the next piece; when this returns it is safely on disk.

        Args:
            upload_id: whose next piece it is.
            by: who sends it.
            offset: where in the file it belongs.
            piece: at most :data:`app.bodies.CHUNK_BYTES`.
            checksum: its CRC-32.

        Raises:
            UploadRefused: it belongs elsewhere, was damaged on its way, or the disk has not the space; nothing was added.
        """
        with self._turn_of(upload_id):
            arrival = self.get(upload_id, by)
            if offset != arrival.offset:
                raise UploadRefused(
                    HTTPStatus.CONFLICT,
                    f"a piece for byte {offset} of {arrival.name}",
                    expected=f"byte {arrival.offset}",
                    remedy="Go on there",
                    offset=arrival.offset,
                )
            if not 1 <= len(piece) <= min(CHUNK_BYTES, arrival.size - offset):
                raise UploadRefused(
                    HTTPStatus.BAD_REQUEST,
                    f"a piece of {len(piece)} bytes",
                    expected=f"1 to {min(CHUNK_BYTES, arrival.size - offset)}",
                    remedy="Send what is left",
                )
            if zlib.crc32(piece) != checksum:
                raise UploadRefused(HTTPStatus.UNPROCESSABLE_ENTITY, "the piece was damaged on its way", remedy="Send it again")
            self._require_space(arrival.name, len(piece))
            longer = arrival.model_copy(update={"offset": offset + len(piece)})
            try:
                _write_at(self._file(arrival), offset, piece)
                self._write(longer)
            except OSError as failed:
                raise self._unwritten(arrival, len(piece), failed) from failed
            return longer

    def take(self, upload_id: str, by: str) -> Path:
        """Hand over a file that is here as a whole: it lies in a folder of its own, and is no upload any more.

        Raises:
            UploadRefused: there is none, or some of it is missing.
        """
        with self._turn_of(upload_id):
            arrival = self.get(upload_id, by)
            if not arrival.complete:
                raise UploadRefused(
                    HTTPStatus.CONFLICT,
                    f"{arrival.name} has come to {arrival.offset / arrival.size:.0%}",
                    expected="all of it",
                    remedy="Wait for the rest, or choose the same file again to go on",
                )
            file = self._file(arrival)
            file.parent.rename(self._kept / arrival.id)
            self._record(arrival.id).unlink()
            return self._kept / arrival.id / file.name

    @contextmanager
    def handing_over(self, upload_id: str, by: str) -> Iterator[Path]:
        """Take a file; where the block fails it is an upload again, as if nothing had been asked.

        Raises:
            UploadRefused: there is none, or some of it is missing.
        """
        arrival = self.get(upload_id, by)
        file = self.take(upload_id, by)
        try:
            yield file
        except BaseException:
            with self._turn_of(upload_id):
                file.parent.rename(self._folder / arrival.id)
                self._write(arrival)
            raise

    def remove(self, upload_id: str, by: str) -> None:
        """Forget an upload.

        Raises:
            UploadRefused: there is none.
        """
        with self._turn_of(upload_id):
            arrival = self.get(upload_id, by)
            for path in (self._record(arrival.id), self._folder / arrival.id):
                _remove(path)

    def sweep(self, *, now: float | None = None) -> None:
        """Remove what nobody went on with for a day."""
        moment = time.time() if now is None else now
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._turn:
            for path in list(self._folder.iterdir()):
                if moment - max(_modified(path), _modified(self._record(path.stem))) > UPLOAD_SECONDS:
                    _remove(path)

    def sweep_kept(self, jobs: Callable[[], Iterable[Job]], *, now: float | None = None) -> None:
        """Remove what was handed over more than a week ago, unless a job may need it yet.

        Those are jobs that have not ended, those that failed or were cancelled within a week, and those that are done and left it there
        because something of it was set aside.

        Args:
            jobs: lists all of them; asked only where something is old enough.
            now: UTC seconds; None for the clock's.
        """
        moment = time.time() if now is None else now
        kept = [path for path in self._kept.glob("*") if KEPT_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
        old = [folder for folder in kept if moment - max(map(_modified, (folder, *folder.iterdir()))) > KEPT_SECONDS]
        if not old:
            return
        needed = {
            part
            for job in jobs()
            if job.state not in GIVEN_UP or moment - (job.ended or job.created) <= KEPT_SECONDS
            for path in job.inputs.values()
            for part in Path(path).parts
        }
        for folder in old:
            if folder.name not in needed:
                _remove(folder)

    def _refuse_excess(self, announced: Announcement, under_way: list[Arrival]) -> None:
        limits, held = self._limits, sum(arrival.size for arrival in under_way)
        if announced.size > limits.largest:
            raise UploadRefused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{announced.name} has {in_words(announced.size)}",
                expected=f"at most {in_words(limits.largest)}",
                remedy="Name it by its path on the server, or have TILEHAWK_UPLOAD_BYTES set higher",
            )
        if len(under_way) >= limits.arriving or held + announced.size > limits.together:
            raise UploadRefused(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{len(under_way)} uploads of {in_words(held)} are under way, and {announced.name} has {in_words(announced.size)}",
                expected=f"at most {limits.arriving} of {in_words(limits.together)} together",
                remedy="Finish or remove some first; those that nobody goes on with are removed after a day",
            )
        self._require_space(announced.name, announced.size + sum(arrival.size - arrival.offset for arrival in under_way))

    def _require_space(self, name: str, wanted: int) -> None:
        """Refuse what would leave less than the reserve free."""
        free = self._free_bytes(self._folder)
        if free - wanted < self._limits.reserve:
            raise UploadRefused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"{name} needs {in_words(wanted)} beside the {in_words(self._limits.reserve)} that stay free; "
                f"the disk has {in_words(free)}",
                remedy="Make room on the server's disk, then go on; what has come stays",
            )

    def _unwritten(self, arrival: Arrival, wanted: int, failed: OSError) -> UploadRefused:
        free = self._free_bytes(self._folder)
        reason = f"needs {in_words(wanted)}, the disk has {in_words(free)}" if failed.errno in NO_SPACE else str(failed.strerror)
        return UploadRefused(
            HTTPStatus.INSUFFICIENT_STORAGE,
            f"the next piece of {arrival.name} could not be written: {reason}",
            remedy="Make room on the server's disk, then go on; what has come stays",
        )

    def _turn_of(self, upload_id: str) -> threading.Lock:
        return self._turns[hash(upload_id) % len(self._turns)]

    def _all(self) -> list[Arrival]:
        found = [(path.stat().st_mtime_ns, arrival) for path in self._folder.glob("*.json") if (arrival := self._read(path))]
        return [arrival for _, arrival in sorted(found, key=lambda each: each[0])]

    def _read(self, record: Path) -> Arrival | None:
        with suppress(OSError, ValidationError):
            arrival = Arrival.model_validate_json(record.read_bytes())
            if arrival.id == record.stem and self._file(arrival).stat().st_size >= arrival.offset:
                return arrival
        return None

    def _write(self, arrival: Arrival) -> None:
        write_json(self._record(arrival.id), arrival.model_dump())

    def _record(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.json"

    def _file(self, arrival: Arrival) -> Path:
        return self._folder / arrival.id / inert_name(arrival.name)


def _write_at(file: Path, offset: int, piece: bytes) -> None:
    """Make ``file`` end with ``piece``, which begins at ``offset``; where that fails it ends at ``offset``."""
    with file.open("r+b", buffering=0) as stream:
        try:
            stream.truncate(offset)
            stream.seek(offset)
            view = memoryview(piece)
            while view:
                view = view[stream.write(view) :]
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(offset)
            raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
