"""Which names of archive members are accepted. A name is never used as a path; a deceptive one is refused all the same."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["MemberNames", "is_system_junk", "name_refusal", "printable"]

MAX_NAME_LENGTH = 1024
_DRIVE = re.compile(r"^[A-Za-z]:")
_JUNK_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})


def printable(name: str) -> str:
    """``name`` as valid text for reports: undecodable bytes and control characters are escaped, an excess of length is cut."""
    escaped = name.encode("utf-8", "backslashreplace").decode("utf-8")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in escaped)
    return shown if len(shown) <= MAX_NAME_LENGTH else shown[: MAX_NAME_LENGTH - 1] + "…"


def is_system_junk(name: str) -> bool:
    """Whether an operating system put this member there by itself (``__MACOSX/``, ``.DS_Store``, ``Thumbs.db``, ``._x``)."""
    parts = name.split("/")
    return "__MACOSX" in parts[:-1] or parts[-1].lower() in _JUNK_FILES or parts[-1].startswith("._")


def text_refusal(name: str) -> str | None:
    """Why ``name`` is no usable text, or None: undecodable bytes, control characters, too long, empty."""
    if not name:
        return "an empty name"
    if any(unicodedata.category(char) == "Cs" for char in name):
        return "a name that is not valid text"
    if any(unicodedata.category(char) in ("Cc", "Cf") for char in name):
        return "a name with control characters"
    if len(name) > MAX_NAME_LENGTH:
        return f"a name of {len(name)} characters, above {MAX_NAME_LENGTH}"
    return None


def name_refusal(name: str) -> str | None:
    """Why a member's name is refused, or None where it is a plain relative path.

    Compatibility forms of dots and slashes (as U+FF0E, U+2024, U+FF0F) count as what they stand for (Unicode NFKC).
    """
    unusable = text_refusal(name)
    if unusable:
        return unusable
    plain = unicodedata.normalize("NFKC", name)
    if "\\" in plain:
        return "a name with a backslash"
    if plain.startswith("/"):
        return "an absolute name"
    if _DRIVE.match(plain):
        return "a name with a drive letter"
    parts = plain.split("/")
    if ".." in parts:
        return "a name that leads out of the archive"
    if any(set(part) <= {".", " "} and part not in ("", ".") for part in parts):
        return "a name made of dots and spaces"
    if any(part != part.rstrip(". ") for part in parts if part != "."):
        return "a name that ends in a dot or a space"
    return None


class MemberNames:
    """The names seen in one archive, to refuse the second of two that a file system could take for one."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def refusal(self, name: str) -> str | None:
        """Why ``name`` is refused, or None; an accepted name counts as seen."""
        refused = name_refusal(name)
        if refused:
            return refused
        parts = [part for part in unicodedata.normalize("NFKC", name).casefold().split("/") if part not in ("", ".")]
        key = "/".join(parts)
        if key not in self._seen:
            self._seen[key] = name
            return None
        earlier = self._seen[key]
        return "the same name twice" if earlier == name else f"a name that differs from {printable(earlier)!r} by letter case or form only"
