"""Reports as JSON and as tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli.output import as_document, show
from engine.config import StageConfig


@dataclass(frozen=True)
class Row:
    name: str
    ap50: float | None


@dataclass(frozen=True)
class Report:
    total_tiles: int
    folder: Path
    rows: list[Row]
    classes: tuple[str, ...]
    by_split: dict[str, int]
    done: bool


class Config(StageConfig):
    seed: int = 3


REPORT = Report(7, Path("a/b"), [Row("x", 0.123456), Row("longer", None)], ("car", "ship"), {"train": 5, "test": 2}, True)


def test_document_is_the_report_in_json_types():
    assert json.loads(show(REPORT, as_json=True)) == {
        "total_tiles": 7,
        "folder": "a/b",
        "rows": [{"name": "x", "ap50": 0.123456}, {"name": "longer", "ap50": None}],
        "classes": ["car", "ship"],
        "by_split": {"train": 5, "test": 2},
        "done": True,
    }


def test_configuration_inside_a_report_is_an_object():
    assert as_document({"config": Config()}) == {"config": {"seed": 3}}


def test_people_get_names_with_values_and_tables():
    assert show(REPORT, as_json=False).splitlines() == [
        "total tiles  7",
        "folder       a/b",
        "classes      car, ship",
        "by split     train 5, test 2",
        "done         yes",
        "",
        "rows:",
        "  name      ap50",
        "  x       0.1235",
        "  longer       -",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_number_that_json_lacks_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        show({"ap": value}, as_json=True)


def test_value_that_json_lacks_is_refused():
    with pytest.raises(TypeError, match="set"):
        show({"ids": {1, 2}}, as_json=True)


def test_nested_numbers_are_a_section_of_their_own():
    assert show({"model": "first", "metrics": {"ap": 0.5, "per_class": {"car": 0.5}}}, as_json=False).splitlines() == [
        "model  first",
        "",
        "metrics:",
        "  ap         0.5",
        "  per class  car 0.5",
    ]


def test_nested_cell_of_a_table_is_cut_short_but_words_are_not():
    rows = [{"why": "w" * 200, "reasons": {f"reason {index}": index for index in range(50)}}]
    line = show({"rows": rows}, as_json=False).splitlines()[-1]
    assert "w" * 200 in line
    assert line.endswith("…")
    assert len(line) < 300
