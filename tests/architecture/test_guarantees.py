"""The table of guarantees and the tests that hold them, each way."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (G\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
MARK = re.compile(r"pytest\.mark\.guarantee\(([^)]*)\)")


def rows() -> dict[str, list[str]]:
    """The files that each row names."""
    return {found[1]: re.findall(r"`([^`]+)`", found[3]) for found in ROW.finditer((ROOT / "docs" / "guarantees.md").read_text())}


def marked() -> dict[str, set[str]]:
    """The test files in which each id is marked."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for arguments in MARK.findall(path.read_text()):
            assert re.fullmatch(r'(\s*"G\d+"\s*,?)+', arguments), f"{path}: a guarantee's id is written out, found {arguments}"
            for promise in re.findall(r"G\d+", arguments):
                found.setdefault(promise, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_promise_has_a_test_and_every_marked_test_a_promise():
    assert sorted(rows()) == sorted(marked())


def test_rows_name_files_that_hold_them():
    for promise, files in rows().items():
        assert files, promise
        assert set(files) <= marked().get(promise, set()), promise
