"""What a check says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import BadInput, TilehawkError

__all__ = ["Check", "found_by"]


@dataclass(frozen=True)
class Check:
    """What was looked at, how it went (ok, warn or fail), what was found, and what to do (empty where nothing)."""

    name: str
    result: str
    found: str
    do: str = ""


def found_by(name: str, look: Callable[[], Check]) -> Check:
    """What ``look`` finds; an error of ours is a check that failed, or for what may pass by itself one to be warned of."""
    try:
        return look()
    except BadInput as refused:
        return Check(name, "fail", refused.found, refused.remedy or f"It should be {refused.expected}")
    except TilehawkError as refused:
        return Check(name, "warn", refused.found, refused.remedy or "Try again later")
