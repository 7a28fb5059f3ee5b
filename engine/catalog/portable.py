"""The catalog as one SQLite file, whatever database it is in: what a backup holds, and how another catalog is filled from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import JSON, Connection, Engine, MetaData, Table, create_engine, func, insert, select, text

from engine.catalog import migrations
from engine.catalog.schema import Base

__all__ = ["fill", "forget_passwords", "without_log", "written_down"]

ROWS_AT_ONCE = 1000


def written_down(source: Engine, target: Path, tick: Callable[[], None]) -> None:
    """Write the rows behind ``source`` to a new SQLite file, as they are in one state of it.

    Args:
        source: a catalog at the newest revision; its transactions read one state.
        target: where nothing is yet.
        tick: called every thousand rows; may raise to stop.
    """
    engine = create_engine(f"sqlite:///{target}")
    try:
        with engine.begin() as connection:
            migrations.upgrade(connection)
        with source.connect() as reading, engine.begin() as writing:
            _copy(reading, writing, tick)
    finally:
        engine.dispose()


def fill(catalog: Path, target: Connection, tick: Callable[[], None]) -> None:
    """Copy the rows of the SQLite file ``catalog`` into the empty catalog behind ``target``; both are at the newest revision."""
    engine = create_engine(f"sqlite:///file:{catalog}?mode=ro&uri=true")
    try:
        with engine.connect() as reading:
            _copy(reading, target, tick)
    finally:
        engine.dispose()
    if target.dialect.name == "postgresql":
        _number_on(target)


def forget_passwords(catalog: Path) -> int:
    """Leave no hash of a password in the SQLite file ``catalog``, not in its free pages either; returns how many accounts that met."""
    with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        met = connection.execute("UPDATE user_account SET password_hash = ''").rowcount
        connection.execute("VACUUM")
    return met


def without_log(catalog: Path) -> None:
    """Make the SQLite file ``catalog`` complete in itself: no file beside it."""
    with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _copy(reading: Connection, writing: Connection, tick: Callable[[], None]) -> None:
    """Every table in an order in which what a row refers to is there before it."""
    for table in _tables():
        query = select(table).order_by(*table.primary_key).execution_options(yield_per=ROWS_AT_ONCE)
        with reading.execute(query) as rows:
            for part in rows.mappings().partitions(ROWS_AT_ONCE):
                writing.execute(insert(table), [dict(row) for row in part])
                tick()


def _tables() -> list[Table]:
    """The tables of the catalog; an absent JSON value is an absent one in the copy, too, and not the word null."""
    copies = MetaData()
    for table in Base.metadata.sorted_tables:
        for column in table.to_metadata(copies).columns:
            if isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)
    return copies.sorted_tables


def _number_on(target: Connection) -> None:
    """Let PostgreSQL number new rows behind those that were copied with their numbers."""
    for table in _tables():
        (key, *others) = table.primary_key
        sequence = None if others else target.scalar(select(func.pg_get_serial_sequence(table.name, key.name)))
        if sequence is not None:
            target.execute(text("SELECT setval(:sequence, (SELECT max(id) FROM " + table.name + "))"), {"sequence": sequence})  # noqa: S608 - our own name
