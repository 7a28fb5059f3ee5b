"""The examples of docs/library.md run as they stand, and print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
BLOCK = re.compile(r"^## (?P<title>.+?)$|^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    title: str
    line: int
    code: str
    output: str | None


def examples(page: str) -> list[Example]:
    found: list[Example] = []
    title = ""
    for block in BLOCK.finditer(page):
        if block["title"]:
            title = block["title"]
        else:
            found.append(Example(title, page.count("\n", 0, block.start("code")), block["code"], block["output"]))
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each example prints, by its title; all run in order in one folder, like a reader who types the page."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names: dict[str, Any] = {}
    answers: dict[str, str] = {}
    try:
        with contextlib.chdir(tmp_path_factory.mktemp("library")):
            for example in examples(PAGE.read_text()):
                answer = io.StringIO()
                code = compile("\n" * example.line + example.code, str(PAGE), "exec")
                with contextlib.redirect_stdout(answer):
                    exec(code, names)
                answers[example.title] = answer.getvalue()
    finally:
        torch.set_num_threads(threads)
    return answers


@pytest.mark.parametrize("example", examples(PAGE.read_text()), ids=lambda example: example.title)
def test_example_runs_and_prints_what_the_page_says(example, printed):
    assert printed[example.title]
    if example.output is not None:
        assert printed[example.title] == example.output


def test_every_python_block_of_the_page_is_an_example():
    page = PAGE.read_text()
    found = examples(page)
    assert len(found) == page.count("```python") >= 6
    assert len({example.title for example in found}) == len(found)
