"""The base of every stage's configuration."""

from __future__ import annotations

import difflib
import reprlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from engine.errors import UsageError

__all__ = ["StageConfig", "limits"]

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤", "pattern": "matches"}
_OUT_OF_RANGE = frozenset(["greater_than", "greater_than_equal", "less_than", "less_than_equal"])


def limits(field: FieldInfo) -> list[str]:
    """What is said of the values of a field beside their type, such as ``["≥ 0", "≤ 1"]``."""
    return [
        f"{sign} {getattr(limit, key)}" for limit in field.metadata for key, sign in _SIGNS.items() if getattr(limit, key, None) is not None
    ]


class StageConfig(BaseModel):
    """Frozen, one per stage; an unknown key or an impossible value is an error, never repaired."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build from loose values, such as a JSON file or ``--set key=value`` on the command line.

        Raises:
            UsageError: naming the key, the value, and the nearest valid key.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                nearest = difflib.get_close_matches(key, cls.model_fields, n=1)
                raise UsageError(
                    f"unknown key {key!r} for {cls.__name__}",
                    expected=f"one of {sorted(cls.model_fields)}",
                    remedy=f"Did you mean {nearest[0]!r}?" if nearest else "See docs/configuration.md",
                ) from invalid
            reason = first["msg"].removeprefix("Value error, ")
            if not key:
                found = f"settings of {cls.__name__} that do not go together: {reason}"
                raise UsageError(found, remedy="See docs/configuration.md") from invalid
            value = reprlib.repr(first.get("input"))
            field = cls._field(first["loc"])
            expected = f"a number {', '.join(limits(field))}" if field and first["type"] in _OUT_OF_RANGE else reason
            raise UsageError(f"{key} = {value} for {cls.__name__}", expected=expected, remedy="See docs/configuration.md") from invalid

    @classmethod
    def _field(cls, path: Sequence[int | str]) -> FieldInfo | None:
        """The field at a path of keys through configurations inside configurations; None where it leads to something else."""
        name, *further = path
        field = cls.model_fields.get(str(name))
        if field is None or not further:
            return field
        inside = [each for each in (field.annotation, *typing.get_args(field.annotation)) if isinstance(each, type)]
        return next((each._field(further) for each in inside if issubclass(each, StageConfig)), None)
