"""The keys of a page: one table for the hint, the help, the script and the guide."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from app.pages import find, review
from app.pages.keyboard import Shortcut, bindings, legend

GUIDE = Path(__file__).parents[3] / "docs" / "annotating.md"
WEB = Path(__file__).parents[3] / "app" / "web"


def test_the_script_gets_every_key(tmp_path):
    keys = [Shortcut(("y",), "#yes", "Yes <now>", hint="yes"), Shortcut(("shift+z", "ctrl+y"), "redo", "Redo")]
    shown = legend(keys, digits="The class")
    read = json.loads(html.unescape(re.search(r'data-keys="([^"]*)"', shown)[1]))
    assert read == {"y": "#yes", "shift+z": "redo", "ctrl+y": "redo", **{str(digit): f"class-{digit}" for digit in range(1, 10)}}
    assert "<kbd>Shift+Z</kbd>" in shown
    assert "Yes &lt;now&gt;" in shown


def test_a_key_that_does_two_things_is_a_mistake():
    with pytest.raises(AssertionError):
        bindings([Shortcut(("y",), "#yes", "Yes"), Shortcut(("n", "y"), "#no", "No")])


@pytest.mark.parametrize("page", [review, find])
def test_the_guide_has_every_key(page):
    guide = GUIDE.read_text(encoding="utf-8")
    for shortcut in page.SHORTCUTS:
        assert f"| {shortcut.words} |" in guide, shortcut


@pytest.mark.parametrize("page", [review, find])
def test_every_act_is_one_of_a_script_or_presses_a_button(page):
    scripts = "".join((WEB / name).read_text(encoding="utf-8") for name in ("keys.js", "labeller.js"))
    for shortcut in page.SHORTCUTS:
        assert shortcut.act.startswith("#") or f"acts.{shortcut.act} = " in scripts, shortcut
