"""The keys of a page: one table for the hint, the help and the script that listens (web/keys.js)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.pages import text

__all__ = ["Shortcut", "bindings", "legend"]

SHOWN = {
    "enter": "Enter",
    "space": "Space",
    "delete": "Del",
    "backspace": "Backspace",
    "arrowleft": "←",
    "arrowright": "→",
    "ctrl": "Ctrl",
    "shift": "Shift",
}


@dataclass(frozen=True)
class Shortcut:
    """Keys, and what they do.

    ``keys``: as the script names them, for example ``enter`` or ``shift+a``; ``act``: ``#id`` of a button that is pressed, or the name of
    what a script of the page does; ``words``: what it does, for people; ``hint``: a short word for the line that is always shown.
    """

    keys: tuple[str, ...]
    act: str
    words: str
    hint: str = ""


def bindings(shortcuts: Sequence[Shortcut]) -> dict[str, str]:
    """Key → what it does, for the script."""
    found = {key: each.act for each in shortcuts for key in each.keys}
    assert len(found) == sum(len(each.keys) for each in shortcuts), "no key does two things"
    return found


def legend(shortcuts: Sequence[Shortcut], *, digits: str = "") -> str:
    """The line of hints with a button for all keys, the table that it opens, and the bindings that the script reads.

    Args:
        shortcuts: of the page.
        digits: what the digits do, where they do something.
    """
    rows = [([_shown(key) for key in each.keys], each.words) for each in shortcuts]
    rows += [(["1", "…", "9"], digits)] if digits else []
    known = bindings(shortcuts) | ({str(digit): f"class-{digit}" for digit in range(1, 10)} if digits else {})
    hints = [(_shown(each.keys[0]), each.hint) for each in shortcuts if each.hint]
    return text.shortcuts(hints, rows, json.dumps(known))


def _shown(key: str) -> str:
    """``shift+a`` as ``Shift+A``."""
    return "+".join(SHOWN.get(part, part.upper() if len(part) == 1 else part) for part in key.split("+"))
