"""Locks that a PostgreSQL server frees when the connection of their holder ends; who holds one is written in that connection's name.

An advisory lock binds nobody but those who ask for it, is held by a session, and dies with it, be it closed, killed or cut off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from engine.catalog.locks import Holder, busy
from engine.errors import WorkspaceBusy

__all__ = ["ServerLock", "holder_on", "key_of"]

POLL_SECONDS = 0.05
NAME_BYTES = 63
"""How much PostgreSQL keeps of ``application_name``; of other characters than ASCII it keeps a question mark."""
PREFIX = "tilehawk"

_TRY = text("SELECT set_config('application_name', :note, false), pg_try_advisory_lock(:key)")
_HOLDER = text(
    "SELECT activity.application_name FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid "
    "WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1 "
    "AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND CAST(held.classid AS bigint) = :high AND CAST(held.objid AS bigint) = :low"
)


def key_of(*parts: str) -> int:
    """The signed 64-bit key of the lock that ``parts`` name."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big", signed=True)


def holder_on(connection: Connection, key: int) -> Holder | None:
    """Who holds the lock ``key`` of this database now; None where nobody does."""
    unsigned = key % 2**64
    row = connection.execute(_HOLDER, {"high": unsigned >> 32, "low": unsigned % 2**32}).first()
    return None if row is None else _read_note(row[0] or "")


class ServerLock:
    """One advisory lock, on a connection of its own.

    Args:
        engine: without a pool, in autocommit mode.
        key: of the lock, :func:`key_of`.
        place: the workspace's folder, for messages.
        purpose: what the lock is held for, shown to whoever finds it taken.
    """

    def __init__(self, engine: Engine, key: int, place: Path, purpose: str) -> None:
        self._engine, self._key, self._place, self._purpose = engine, key, place, purpose
        self._turn = threading.Lock()
        self._connection: Connection | None = None

    def take(self, *, wait_seconds: float = 0.0) -> None:
        """Take the lock.

        Raises:
            WorkspaceBusy: another holder kept it for ``wait_seconds``; the message says who, what for, and since when.
        """
        deadline = time.monotonic() + wait_seconds
        self._connection = self._engine.connect()
        while not self._try(self._connection):
            if time.monotonic() >= deadline:
                holder = holder_on(self._connection, self._key)
                self._connection.close()
                raise busy(self._place, holder)
            time.sleep(POLL_SECONDS)

    def require(self) -> None:
        """Make sure that the lock is still held: after its connection was lost it is taken anew, where nobody else took it meanwhile.

        Raises:
            WorkspaceBusy: somebody else did.
        """
        with self._turn:
            assert self._connection is not None, "take comes first"
            try:
                self._connection.execute(text("SELECT 1"))
            except DBAPIError:
                self._take_anew()

    def release(self) -> None:
        """Give the lock back; the server does so itself where the connection was lost."""
        with self._turn:
            assert self._connection is not None, "take comes first"
            with contextlib.suppress(DBAPIError):
                self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})
            self._connection.close()

    def _take_anew(self) -> None:
        assert self._connection is not None
        self._connection.close()
        self._connection = self._engine.connect()
        if not self._try(self._connection):
            holder = holder_on(self._connection, self._key)
            raise WorkspaceBusy(
                f"the connection that held the right to run stages on {self._place} was lost, and {holder or 'another process'} has it now",
                remedy="Run this again when that is done",
            )

    def _try(self, connection: Connection) -> bool:
        return bool(connection.execute(_TRY, {"note": _note(self._purpose), "key": self._key}).one()[1])


def _note(purpose: str) -> str:
    """``tilehawk|pid|since|purpose|host``, the end of a long host name cut off."""
    return f"{PREFIX}|{os.getpid()}|{time.time():.0f}|{purpose}|{socket.gethostname()}"[:NAME_BYTES]


def _read_note(note: str) -> Holder:
    prefix, _, rest = note.partition("|")
    pid, _, rest = rest.partition("|")
    since, _, rest = rest.partition("|")
    purpose, _, host = rest.partition("|")
    if prefix == PREFIX and pid.isdigit() and since.isdigit():
        return Holder(int(pid), purpose, float(since), host or None)
    return Holder(0, "starting", time.time())
