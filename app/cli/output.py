"""A stage's report as one JSON document, or as a table for people."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["as_document", "emit", "show"]

LONGEST_NESTED_CELL = 60


def as_document(value: Any) -> Any:
    """``value`` (dataclasses, pydantic models, mappings, sequences, paths) made of JSON's own types.

    Raises:
        TypeError: something inside has no place in JSON; a report must be ready for it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_document(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): as_document(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_document(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} in a report is not ready for JSON")


def show(report: Any, *, as_json: bool) -> str:
    """``report`` as the text of standard output, with its last line break."""
    document = as_document(report)
    if as_json:
        return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return "\n".join(_lines(document)) + "\n"


def emit(report: Any, *, as_json: bool) -> None:
    """Write ``report`` to standard output: the one answer of a command."""
    sys.stdout.write(show(report, as_json=as_json))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value) or "-"
    return str(value)


def _table_cell(value: Any) -> str:
    """A cell; what is nested is cut short, for --json has all of it."""
    text = _cell(value)
    nested = isinstance(value, (Mapping, list))
    return f"{text[: LONGEST_NESTED_CELL - 1]}…" if nested and len(text) > LONGEST_NESTED_CELL else text


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _is_deep(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, (Mapping, list)) for item in value.values())


def _title(key: str) -> str:
    return key.replace("_", " ")


def _lines(document: Any, indent: str = "") -> Iterable[str]:
    if _is_table(document):
        yield from _table(document, indent)
        return
    if not isinstance(document, Mapping):
        yield indent + _cell(document)
        return
    sections = {key: value for key, value in document.items() if _is_table(value) or _is_deep(value)}
    plain = {key: value for key, value in document.items() if key not in sections}
    width = max((len(_title(key)) for key in plain), default=0)
    for key, value in plain.items():
        yield f"{indent}{_title(key):<{width}}  {_cell(value)}"
    for number, (key, value) in enumerate(sections.items()):
        if number or plain:
            yield ""
        yield f"{indent}{_title(key)}:"
        yield from _lines(value, indent + "  ")


def _table(rows: list[Mapping[str, Any]], indent: str) -> Iterable[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_title(column) for column in columns]] + [[_table_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    numeric = [all(isinstance(row.get(column), (int, float, type(None))) for row in rows) for column in columns]
    for line in cells:
        parts = (f"{cell:>{width}}" if right else f"{cell:<{width}}" for cell, width, right in zip(line, widths, numeric, strict=True))
        yield (indent + "  ".join(parts)).rstrip()
