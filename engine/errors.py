"""Everything Tilehawk raises on purpose.

::

    TilehawkError              1    anything else that went wrong and is explained
    ├── UsageError             2    the call itself is wrong (unknown key, impossible value of an option)
    ├── BadInput               3    a file, a value or a label set that we were given cannot be used
    │   ├── Missing                 what was made on another server, and is not there any more
    │   ├── UnreadableImage         one image, set aside while the rest goes on
    │   ├── ArchiveRefused          an archive as a whole: no archive, over a cap, no image inside
    │   ├── LabelSetMismatch        classes differ between labels, workspace and model
    │   └── CheckpointRefused       a model or checkpoint that is damaged or belongs to something else
    ├── NothingToDo            4    the work asked for is done already, or there is nothing to do it on
    ├── NotAllowed             1    the one who asks may not do this
    ├── WorkspaceBusy          1    another process holds the right to run stages
    ├── StaleReview            1    a tile was changed by somebody else while it was being annotated
    ├── ParityError            1    an exported model does not compute what the original computes
    └── Cancelled            130    the user stopped the job

The number is the exit code of the command line. Each error says what was found, what was expected and what to do next.
"""

from __future__ import annotations

__all__ = [
    "ArchiveRefused",
    "BadInput",
    "Cancelled",
    "CheckpointRefused",
    "LabelSetMismatch",
    "Missing",
    "NotAllowed",
    "NothingToDo",
    "ParityError",
    "StaleReview",
    "TilehawkError",
    "UnreadableImage",
    "UsageError",
    "WorkspaceBusy",
]


class TilehawkError(Exception):
    """Base of the tree.

    Args:
        found: what was found, naming the file and the value.
        expected: what would have been right; may be empty where it is evident.
        remedy: what the user can do next; may be empty where nothing can be done.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        parts = [found]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__(". ".join(part.rstrip(".") for part in parts) + ".")

    def as_json(self) -> dict[str, object]:
        """The error as one JSON-ready document, for ``--json``."""
        return {
            "error": type(self).__name__,
            "found": self.found,
            "expected": self.expected,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


class UsageError(TilehawkError):
    """The call itself is wrong."""

    exit_code = 2


class BadInput(TilehawkError):
    """A file, a value or a label set that we were given cannot be used."""

    exit_code = 3


class Missing(BadInput):
    """What was made on another server is not there any more."""


class UnreadableImage(BadInput):
    """One image cannot be read safely; it is set aside while the rest goes on."""


class ArchiveRefused(BadInput):
    """An archive cannot be read as a whole."""


class LabelSetMismatch(BadInput):
    """The classes of labels, workspace and model differ."""


class CheckpointRefused(BadInput):
    """A model or checkpoint is damaged, or belongs to another architecture, label set or stage."""


class NothingToDo(TilehawkError):
    """The work is done already, or there is nothing to do it on."""

    exit_code = 4


class NotAllowed(TilehawkError):
    """The one who asks may not do this; somebody else may."""


class WorkspaceBusy(TilehawkError):
    """Another process holds the right to run stages on this workspace."""


class StaleReview(TilehawkError):
    """Somebody else changed the tile since it was opened."""


class ParityError(TilehawkError):
    """An exported model does not compute what the original computes."""


class Cancelled(TilehawkError):
    """The user stopped the job; what was finished is kept."""

    exit_code = 130
