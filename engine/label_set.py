"""The ordered class names of a workspace, and the fingerprint by which models and labels recognise them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from engine.errors import BadInput, LabelSetMismatch

__all__ = ["LabelSet"]


@dataclass(frozen=True)
class LabelSet:
    """Ordered, distinct class names; a class's index is its label everywhere in the engine.

    Raises:
        BadInput: a name is empty, or stands twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.names:
            if not name or name != name.strip():
                raise BadInput(f"the class name {name!r}", expected="a name without blanks around it", remedy="Rename the class")
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice:
            raise BadInput(f"the class name {twice[0]!r} stands twice", expected="distinct names", remedy="Rename one of them")

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any name or the order."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()[:16]

    def index(self, name: str) -> int:
        """The label of ``name``.

        Raises:
            LabelSetMismatch: the class is not in the set; the message names the nearest one.
        """
        if name in self.names:
            return self.names.index(name)
        nearest = difflib.get_close_matches(name, self.names, n=1)
        hint = f"Did you mean {nearest[0]!r}? Rename it in the file" if nearest else "Rename it in the file, or start a new workspace"
        raise LabelSetMismatch(f"unknown class {name!r}", expected=f"one of {list(self.names)}", remedy=hint)

    def require_equal(self, other: LabelSet, *, ours: str, theirs: str) -> None:
        """Refuse ``other`` unless it is this very set, naming the difference.

        Raises:
            LabelSetMismatch: with the names that are missing on either side, or the order.
        """
        if self.names == other.names:
            return
        missing = [name for name in self.names if name not in other.names]
        extra = [name for name in other.names if name not in self.names]
        difference = "; ".join(
            part
            for part in (
                f"{theirs} lacks {missing}" if missing else "",
                f"{theirs} has {extra} in addition" if extra else "",
                "" if missing or extra else f"the order differs: {list(other.names)}",
            )
            if part
        )
        raise LabelSetMismatch(
            f"the classes of {theirs} are not those of {ours}: {difference}",
            expected=f"exactly {list(self.names)}",
            remedy=f"Use labels or a model made for {ours}",
        )

    @classmethod
    def of(cls, names: Iterable[str]) -> LabelSet:
        """A label set of ``names`` in their order."""
        return cls(tuple(names))
