"""Ids of scenes and tiles that were withdrawn, which SQLite would give to others: a page or a picture may still name them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.catalog.schema import ForgottenId, Scene, Tile

__all__ = ["first_id_of", "keep_ids"]

NEW_ANYWAY = "ids are new anyway"
"""What a session knows of a table until rows of it are withdrawn there."""


def keep_ids(session: Session) -> None:
    """Let no scene and no tile that comes later have an id that one has now."""
    if not _gives_ids_again(session):
        return
    for table in (Scene, Tile):
        session.info.pop(table, None)
        highest = session.scalar(select(func.max(table.id)))
        row = session.get(ForgottenId, table.__tablename__) or ForgottenId(name=table.__tablename__, highest=0)
        row.highest = max(row.highest, highest or 0)
        session.add(row)
    session.flush()


def first_id_of(session: Session, table: type[Scene] | type[Tile]) -> Any:
    """The id to be given to the next row of ``table``; None where what the database would give is new anyway, as it mostly is."""
    if not _gives_ids_again(session) or session.info.get(table) == NEW_ANYWAY:
        return None
    row = session.get(ForgottenId, table.__tablename__)
    if row is None or row.highest < (session.scalar(select(func.max(table.id))) or 0):
        session.info[table] = NEW_ANYWAY
        return None
    return row.highest + 1


def _gives_ids_again(session: Session) -> bool:
    """SQLite's next id is the highest of the table and one; a server counts on."""
    return session.get_bind().dialect.name == "sqlite"
