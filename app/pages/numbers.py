"""Fields of numbers as a page sends them: an emptied one holds None."""

from __future__ import annotations

from engine.errors import UsageError

__all__ = ["whole"]


def whole(value: float | None, noun: str) -> int:
    """The whole number in the field that counts ``noun``.

    Raises:
        UsageError: the field is empty, or holds less than 1.
    """
    try:
        number = int(value) if value is not None else None
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number < 1:
        found = f"no number of {noun}" if number is None else f"{number} as the number of {noun}"
        raise UsageError(found, expected="a whole number, 1 at least", remedy="Type one into the field")
    return number
