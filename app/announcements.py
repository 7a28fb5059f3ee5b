"""What is said of a file before it comes, how far it has come, and what is refused."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, Self

from pydantic import BaseModel, ByteSize, ConfigDict, Field

from app.settings import Settings
from engine.errors import BadInput

__all__ = ["MOST_ARRIVING", "Announcement", "Arrival", "UploadLimits", "UploadRefused", "in_words", "inert_name"]

MOST_ARRIVING = 16
"""Uploads that were begun and not taken yet, of everybody together."""
LARGEST_NAME = 200
"""Bytes of a file's name on disk."""


class Announcement(BaseModel):
    """What is about to come: the file's own name, its bytes, and what tells it from another file of that name and size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=1024)
    size: int = Field(ge=1, le=2**53)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    purpose: Literal["imagery", "labels"] = "imagery"


class Arrival(Announcement):
    """An upload: its id, who began it, and how many of its bytes are safely here."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    by: str
    offset: int = Field(default=0, ge=0)

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.offset == self.size


@dataclass(frozen=True)
class UploadLimits:
    """Bytes that one upload may hold, that all under way may hold together, and that stay free on the disk."""

    largest: int
    together: int
    reserve: int
    arriving: int = MOST_ARRIVING

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the service is set: all together twice as much as one."""
        return cls(int(settings.upload_bytes), 2 * int(settings.upload_bytes), int(settings.reserve_bytes))


class UploadRefused(BadInput):
    """An upload or a piece of it that is not taken; ``offset`` is where the next piece belongs, where that was the matter."""

    def __init__(self, status: HTTPStatus, found: str, *, expected: str = "", remedy: str = "", offset: int | None = None) -> None:
        super().__init__(found, expected=expected, remedy=remedy)
        self.status, self.offset = status, offset


def inert_name(name: str) -> str:
    """The last part of ``name`` as a file may be called anywhere: letters, digits, dot, dash and underscore, not hidden, not long."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    plain = re.sub(r"[^\w.-]+", "_", last).lstrip("._-")
    return plain.encode()[-LARGEST_NAME:].decode(errors="ignore").lstrip("._-") or "upload"


def in_words(count: int) -> str:
    """So many bytes, as people say it."""
    return ByteSize(count).human_readable()
