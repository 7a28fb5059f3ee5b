"""Options that many commands share, and the configuration made from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from engine.config import StageConfig
from engine.errors import BadInput, UsageError

__all__ = ["ConfigOption", "JsonOption", "NoQueueOption", "SetOption", "WorkspaceOption", "configured"]

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="The workspace; else $TILEHAWK_WORKSPACE, else the nearest parent folder that is one.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output, and nothing else.")]
NoQueueOption = Annotated[
    bool, typer.Option("--no-queue", help="Refuse where a worker has the workspace, instead of queueing the job and following it.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.json", help="Configuration of the stage as a JSON object.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One value of the configuration (JSON, else text); may be repeated; goes over --config. Keys: docs/configuration.md.",
        show_default=False,
    ),
]

Config = TypeVar("Config", bound=StageConfig)


def configured(
    config_class: type[Config],
    file: Path | None,
    settings: Iterable[str] | None,
    *,
    beneath: Mapping[str, Any] | None = None,
    **options: Any,
) -> Config:
    """The stage's configuration: its defaults, under ``beneath``, ``file``, ``--set``, with the command's own options (None: not given).

    The keys of ``beneath`` and ``options`` may be dotted, as those of ``--set`` are.

    Raises:
        BadInput: the file cannot be read, or is not a JSON object.
        UsageError: an unknown key, an impossible value, or a key set twice.
    """
    values: dict[str, Any] = {}
    for key, value in (beneath or {}).items():
        _assign(values, key, value)
    _lay_over(values, _from_file(file) if file is not None else {})
    set_keys: set[str] = set()
    for setting in settings or ():
        key, value = _split(setting)
        if key in set_keys:
            raise UsageError(f"--set {key}=… stands twice", expected="each key once", remedy="Leave one of them out")
        set_keys.add(key)
        _assign(values, key, value)
    for key, value in options.items():
        if value is None:
            continue
        if key in set_keys:
            raise UsageError(f"{key} is given by --set and by an option of its own", expected="one of them", remedy="Leave one of them out")
        _assign(values, key, value)
    return config_class.from_mapping(values)


def _lay_over(values: dict[str, Any], others: Mapping[str, Any]) -> None:
    """``others`` over ``values``, objects key by key."""
    for key, value in others.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _lay_over(values[key], value)
        else:
            values[key] = value


def _from_file(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"the configuration {file} cannot be read: {error.strerror}", remedy="Check the path after --config") from error
    except ValueError as error:
        raise BadInput(f"the configuration {file} is not JSON: {error}", expected="a JSON object") from error
    if not isinstance(document, dict):
        raise BadInput(f"the configuration {file} holds a {type(document).__name__}", expected="a JSON object")
    return document


def _split(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {setting}", expected="KEY=VALUE", remedy="For example --set seed=7")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.get(parent, {})
        if not isinstance(inner, Mapping):
            raise UsageError(f"--set {dotted}=… reaches into {parent}, which is {inner!r}", expected="a key of an object")
        values[parent] = dict(inner)
        values = values[parent]
    values[last] = value
