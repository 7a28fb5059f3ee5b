"""Settings that cannot be are refused by name, in a line that a person can read."""

from __future__ import annotations

from typing import Any, Self

import pytest
from pydantic import Field, model_validator

from engine.config import StageConfig
from engine.errors import UsageError


class Crops(StageConfig):
    smallest: int = Field(default=8, ge=1)
    largest: int = 64

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest = {self.smallest} is above largest = {self.largest}")
        return self


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"smalest": 3}, "unknown key 'smalest' for Crops"),
        ({"smallest": 0}, "smallest = 0 for Crops"),
        ({"smallest": 9, "largest": 4}, "settings of Crops that do not go together: smallest = 9 is above largest = 4"),
    ],
)
def test_what_cannot_be_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Crops.from_mapping(given)
    assert refusal.value.found == said
    assert refusal.value.remedy


class Archive(StageConfig):
    share: float = Field(default=0.5, ge=0, le=1)
    crops: Crops | None = None
    sides: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"share": 1.5}, "a number ≥ 0, ≤ 1"),
        ({"share": -2}, "a number ≥ 0, ≤ 1"),
        ({"crops": {"smallest": 0}}, "a number ≥ 1"),
        ({"share": "much"}, "Input should be a valid number, unable to parse string as a number"),
        ({"sides": [1, "x"]}, "Input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_the_whole_range_is_said(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Archive.from_mapping(given)
    assert refusal.value.expected == expected


def test_a_value_of_any_length_makes_a_short_message() -> None:
    with pytest.raises(UsageError, match="valid integer") as refusal:
        Crops.from_mapping({"largest": "9" * 30 + "x" * 100_000})
    assert len(str(refusal.value)) < 300
    assert "999" in str(refusal.value)
