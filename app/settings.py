"""Where things are, and how the service is set: the workspace of a call, and the settings that the environment holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator

from engine.errors import UsageError

__all__ = ["ENVIRONMENT", "Settings", "find_workspace", "prepare_environment"]

PREFIX = "TILEHAWK_"


class Settings(BaseModel):
    """How the service is set; each field is read from ``TILEHAWK_`` and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    public_url: str | None = None
    """The address under which browsers and the annotation server reach the app, as `https://tiles.example.org`; without it the app
    answers to this machine's own names, and where it listens elsewhere to its numeric address. An address that is not this machine's own
    makes a login necessary."""
    upload_bytes: ByteSize = Field(default=ByteSize(50 * 1024**3), ge=1024)
    """The most that one upload through the page may hold, in bytes or as `50GiB`, and half of what all under way may hold together; larger
    archives are named by their path on the server."""
    reserve_bytes: ByteSize = Field(default=ByteSize(2 * 1024**3), ge=0)
    """The space on the workspace's disk that uploads leave free, in bytes or as `2GiB`: one that would take of it is refused or waits."""
    pull_seconds: float = Field(default=60.0, gt=0)
    """How often the worker asks the annotation server for answers, in case a notification was lost."""
    pause_seconds: float = Field(default=30.0, gt=0)
    """A longer pause between two moves, clicks or keys on the page Review counts as so many seconds of work."""
    shown_score: float = Field(default=0.3, ge=0, le=1)
    """Label Studio's annotators are shown what the current detector finds from this score up, where it asks for suggestions."""
    look_alike_score: float | None = Field(default=None, ge=0, le=1)
    """And what looks like the box that they drew from this score up; without it as in `SuggestConfig`."""
    hourly_rate: float = Field(default=30.0, gt=0)
    """What an hour of an annotator costs, as the page Budget first supposes."""
    currency: str = "€"
    """What money is counted in on the page Budget."""
    import_folders: tuple[Path, ...] = ()
    """Folders of the server that visitors from other machines may name imagery in, separated by `:`; at this machine any may be named."""

    @field_validator("import_folders", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _an_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query:
            raise ValueError("an address such as https://tiles.example.org, without a path")
        parts.port  # noqa: B018 - raises ValueError where it is no number
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **given: object) -> Self:
        """The settings in ``environment``; those ``given`` (None: not given) go before it, and an empty variable counts as none.

        Raises:
            UsageError: an impossible value; the message names the variable.
        """
        found = {name: environment.get(f"{PREFIX}{name.upper()}") or None for name in cls.model_fields}
        values = {**found, **{name: value for name, value in given.items() if value is not None}}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as wrong:
            first = wrong.errors()[0]
            name = str(first["loc"][0])
            raise UsageError(
                f"{PREFIX}{name.upper()} is {values.get(name)!r}", expected=first["msg"].removeprefix("Value error, "), remedy="Mend it"
            ) from wrong


ENVIRONMENT = {
    "TILEHAWK_WORKSPACE": "The workspace where `--workspace` is not given; else the current folder's nearest parent that is one.",
    "TILEHAWK_DATABASE_URL": "The PostgreSQL database that holds the catalogs of workspaces that were made while it was set, as "
    "`postgresql+psycopg://user:password@host/database` (operations.md).",
    "TILEHAWK_DATA": "A folder of real data for tests and benchmarks; those that need it are skipped where it is not set.",
    **{f"{PREFIX}{name.upper()}": " ".join((field.description or "").split()) for name, field in Settings.model_fields.items()},
}
"""The environment variables that Tilehawk reads, each with its meaning."""


def find_workspace(explicit: Path | None, *, environment: Mapping[str, str] = os.environ, current: Path | None = None) -> Path:
    """The folder that a call works on: ``explicit``, else ``TILEHAWK_WORKSPACE``, else the nearest parent that is a workspace.

    Without any of them the current folder itself, so that the error names a place the user knows.
    """
    from engine.catalog.workspace import MARKER

    if explicit is not None:
        return explicit
    if named := environment.get("TILEHAWK_WORKSPACE"):
        return Path(named)
    current = (current or Path.cwd()).resolve()
    for folder in (current, *current.parents):
        if (folder / MARKER).is_file():
            return folder
    return current


def prepare_environment() -> None:
    """Keep third-party libraries quiet and at home: no telemetry, no model hub. Called before they are imported.

    OpenMP threads that wait shall soon sleep: when they spin, they take the core from the thread they wait for as soon as another
    process wants one too, and training is ten times slower (docs/decisions/0007-waiting-threads-sleep.md).
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
