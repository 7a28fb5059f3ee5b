"""How a long job tells what it has done, and is told to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["Progress", "silent", "track"]

Item = TypeVar("Item")


class Progress(Protocol):
    """Called by every long job at least once a batch; raises :class:`engine.errors.Cancelled` to stop it there."""

    def __call__(self, done: int, total: int, message: str) -> None:
        """Report that ``done`` of ``total`` units are finished (``total`` 0 where it is not known)."""


def silent(done: int, total: int, message: str) -> None:
    """A progress that reports to nobody and never cancels."""


def track(items: Iterable[Item], total: int, message: str, progress: Progress) -> Iterator[Item]:
    """Yield ``items``, reporting before the first and after each."""
    progress(0, total, message)
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, total, message)
