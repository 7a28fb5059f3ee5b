"""Fields of numbers as a page sends them: an emptied one holds None."""

from __future__ import annotations

from typing import Any

from engine.errors import UsageError

__all__ = ["BY_LABELS", "IMAGES_LABEL", "learned_images", "whole"]

IMAGES_LABEL = "Training images seen in all (0: four looks at each labelled tile, 2,400 at least)"
BY_LABELS = 0
"""What the field holds where the labels say how much a run sees: a browser shows an empty one as 0, and sends that."""


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


def learned_images(value: float | None) -> dict[str, Any]:
    """What a schedule says of the images that a run with labels sees: nothing where the field is empty or :data:`BY_LABELS`.

    Raises:
        UsageError: it holds less, or a share of an image.
    """
    return {} if value is None or value == BY_LABELS else {"images_seen": whole(value, "training images")}
