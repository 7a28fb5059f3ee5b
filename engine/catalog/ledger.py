"""The append-only record of what happened in a workspace."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.schema import LedgerEvent

__all__ = ["events", "record"]


def record(session: Session, kind: str, **details: Any) -> None:
    """Append an event of ``kind`` with JSON-ready ``details``, in the caller's transaction."""
    session.add(LedgerEvent(kind=kind, details=details))


def events(session: Session, kind: str | None = None) -> list[LedgerEvent]:
    """The events in order, of one ``kind`` or all."""
    query = select(LedgerEvent).order_by(LedgerEvent.id)
    return list(session.scalars(query if kind is None else query.where(LedgerEvent.kind == kind)))
