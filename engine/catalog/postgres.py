"""The catalog in a PostgreSQL database: a schema a workspace, named in ``tilehawk.json``; the address comes from the environment."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError

from engine.catalog import migrations
from engine.catalog.advisory import ServerLock, holder_on, key_of
from engine.catalog.database import BUSY_SECONDS, VARIABLE, Database, SqliteDatabase, newer
from engine.catalog.locks import WORKER, Holder
from engine.catalog.portable import fill, written_down
from engine.errors import BadInput

__all__ = ["PostgresDatabase", "address", "make_schema"]

EXAMPLE = "postgresql+psycopg://user:password@host/database"
CONNECT_SECONDS = 10
SILENT_SECONDS = 30
"""After how long a silent peer is asked for a sign of life, on both sides: a machine that went away frees its locks a minute later."""
CATALOG = "postgresql"
_NAME = re.compile(r"tilehawk_[0-9a-f]{12}")
_IDENTITY = re.compile(r"[0-9a-f]{32}")


def address(given: str) -> URL:
    """The database that ``given`` names; no message repeats it, for it may hold a password.

    Raises:
        BadInput: it is no address, or not one of a PostgreSQL database.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise BadInput(f"{VARIABLE} is no address of a database", expected=EXAMPLE) from None
    if url.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise BadInput(f"{VARIABLE} names another kind of database or driver", expected=EXAMPLE)
    if not url.database:
        raise BadInput(f"{VARIABLE} names no database", expected=EXAMPLE)
    if "password" in url.query:
        raise BadInput(f"{VARIABLE} has the password as a parameter", expected=EXAMPLE)
    return url.set(drivername="postgresql+psycopg")


@contextmanager
def make_schema(given: str) -> Iterator[Callable[[], dict[str, str]]]:
    """While the block runs no other workspace is made in that database; what it gets makes a schema and returns what to remember.

    Args:
        given: address of the database.

    Raises:
        BadInput: the database cannot be reached, is not in UTF-8, or this user may not make a schema there.
    """
    url = address(given)
    engine = _engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with _explained(url), engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key_of("make")})
        encoding = connection.scalar(text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise BadInput(f"the database {_place(url)} is in {encoding}", expected="UTF8", remedy="createdb --encoding=UTF8")

        def make() -> dict[str, str]:
            identity = secrets.token_hex(16)
            schema = f"tilehawk_{identity[:12]}"
            connection.exec_driver_sql(f"BEGIN; CREATE SCHEMA {schema}; COMMENT ON SCHEMA {schema} IS '{_mark(identity)}'; COMMIT")
            return {"catalog": CATALOG, "workspace": identity, "schema": schema}

        yield make


class PostgresDatabase(Database):
    """The schema of one workspace.

    Build it with :meth:`of`.
    """

    def __init__(self, root: Path, url: URL, identity: str, schema: str) -> None:
        self._root, self._url, self._identity, self._schema = root, url, identity, schema
        self.writing = _engine(url, schema=schema, pool_pre_ping=True)
        event.listen(self.writing, "begin", self._begin)
        self.reading = self.writing.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._locking = _engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._right: ServerLock | None = None
        self.jobs_url = url.render_as_string(hide_password=False)
        self.jobs_schema = f"{schema}_jobs"

    @classmethod
    def of(cls, root: Path, marker: Mapping[str, Any], given: str | None) -> Self:
        """The database of the workspace at ``root``.

        Args:
            root: the workspace's folder.
            marker: what its ``tilehawk.json`` says.
            given: address of the database; None where the environment names none.

        Raises:
            BadInput: the marker is damaged, or ``given`` is missing or no address.
        """
        kind, identity, schema = (str(marker.get(key)) for key in ("catalog", "workspace", "schema"))
        if kind != CATALOG or not _IDENTITY.fullmatch(identity) or not _NAME.fullmatch(schema):
            raise BadInput(f"{root / 'tilehawk.json'} names no catalog that we know", remedy="Put it back from a backup")
        if not given:
            raise BadInput(
                f"the catalog of {root} is in a PostgreSQL database, and {VARIABLE} is not set",
                expected=EXAMPLE,
                remedy=f"Set {VARIABLE} to the database in which the workspace was made",
            )
        return cls(root, address(given), identity, schema)

    def require(self) -> None:
        """Look for the schema, and whether it is this workspace's."""
        with _explained(self._url), self.reading.connect() as connection:
            query = "SELECT obj_description(to_regnamespace(:schema), 'pg_namespace')"
            found = connection.scalar(text(query), {"schema": self._schema})
        if found != _mark(self._identity):
            raise BadInput(
                f"the database {_place(self._url)} does not hold the catalog of {self._root}",
                expected=f"the schema {self._schema} of the workspace {self._identity}",
                remedy=f"Name in {VARIABLE} the database in which the workspace was made, or put its backup back there",
            )

    def migrate(self) -> None:
        """Run what is missing, in one transaction with a copy of an older catalog's tables in a schema beside it."""
        with self.reading.connect() as connection:
            if self._revision(connection) == migrations.HEAD:
                return
        with self.writing.begin() as connection:
            revision = self._revision(connection)
            if revision == migrations.HEAD:
                return
            if revision is not None:
                self._copy(connection, f"{self._schema}_before_{migrations.HEAD}")
            migrations.upgrade(connection)

    def copy_to(self, target: Path, tick: Callable[[], None]) -> None:
        """Row by row, in one transaction that sees one state."""
        written_down(self.reading, target, tick)

    def replace_with(self, catalog: Path, tick: Callable[[], None]) -> None:
        """Row by row, in one transaction; an older file, which has a folder of its own, is brought forward there first."""
        older = SqliteDatabase(catalog.parent)
        try:
            older.migrate()
        finally:
            older.close()
        with self.writing.begin() as connection:
            fill(catalog, connection, tick)

    @contextmanager
    def exclusive(self, name: str, purpose: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
        """An advisory lock. While it is the right to run stages, every transaction that writes makes sure that it is still held."""
        lock = ServerLock(self._locking, key_of(self._identity, name), self._root, purpose)
        lock.take(wait_seconds=wait_seconds)
        if name == WORKER:
            self._right = lock
        try:
            yield
        finally:
            if name == WORKER:
                self._right = None
            lock.release()

    def holder(self, name: str) -> Holder | None:
        """Whose connection holds the advisory lock."""
        with self.reading.connect() as connection:
            return holder_on(connection, key_of(self._identity, name))

    def _begin(self, connection: Connection) -> None:
        if connection.get_execution_options().get("postgresql_readonly"):
            return
        if self._right is not None:
            self._right.require()
        key = key_of(self._identity, "writers")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS:.0f}s'; SELECT pg_advisory_xact_lock({key})")

    def _revision(self, connection: Connection) -> str | None:
        if connection.scalar(text("SELECT to_regclass(:table)"), {"table": f"{self._schema}.alembic_version"}) is None:
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        if revision is not None and revision not in migrations.REVISIONS:
            raise newer(self._root, f"schema {revision}", f"one of {list(migrations.REVISIONS)}")
        return revision

    def _copy(self, connection: Connection, target: str) -> None:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {target} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {target}")
        query = text("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = :schema ORDER BY tablename")
        for table in connection.scalars(query, {"schema": self._schema}).all():
            connection.exec_driver_sql(f"CREATE TABLE {target}.{table} AS TABLE {self._schema}.{table}")


def _engine(url: URL, *, schema: str | None = None, **how: Any) -> Engine:
    options = [str(url.query.get("options", "")), f"-c tcp_keepalives_idle={SILENT_SECONDS}"]
    options += ["-c tcp_keepalives_interval=10", "-c tcp_keepalives_count=3"]
    options += [f"-c search_path={schema}"] if schema else []
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": f"tilehawk {os.getpid()}",
        "keepalives_idle": SILENT_SECONDS,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "options": " ".join(options).strip(),
    }
    return create_engine(url, connect_args=arguments, **how)


def _mark(identity: str) -> str:
    return f"Tilehawk workspace {identity}"


def _place(url: URL) -> str:
    return f"{url.database} on {url.host or 'this machine'}"


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    """Say what is wrong with the database instead of how we noticed."""
    try:
        yield
    except OperationalError as unreachable:
        raise BadInput(
            f"the database {_place(url)} cannot be reached: {_reason(unreachable)}", remedy=f"Start it, or correct {VARIABLE}"
        ) from None
    except ProgrammingError as refused:
        raise BadInput(
            f"the database {_place(url)} refused: {_reason(refused)}",
            remedy=f'GRANT CREATE ON DATABASE "{url.database}" TO "{url.username}"',
        ) from None


def _reason(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
