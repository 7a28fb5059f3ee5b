"""The base of every stage's configuration."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.errors import UsageError

__all__ = ["StageConfig"]


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
            raise UsageError(f"{key} = {value} for {cls.__name__}", expected=reason, remedy="See docs/configuration.md") from invalid
