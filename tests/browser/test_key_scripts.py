"""The scripts behind the keys, in a page of their own: who is left alone, and what undo and redo remember."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

WEB = Path(__file__).parents[2] / "app" / "web"
TABLE = {"y": "#yes", "z": "undo", "shift+a": "all", "ctrl+z": "undo", "space": "#yes", "?": "help", "arrowleft": "before", "1": "one"}
PAGE = f"""<p data-keys='{json.dumps(TABLE)}'><button class="keys-help">All keys</button></p>
<button id="yes">Yes</button><input id="words"><textarea id="text"></textarea><input id="slider" type="range">
<div id="free" tabindex="0"></div>
<div id="edited" contenteditable></div><dialog class="keys"><form method="dialog"><button>Close</button></form></dialog>
<script>
    const done = [], acts = window.tilehawkActs = {{}};
    for (const name of ["undo", "all", "before", "one"]) acts[name] = () => done.push(name);
    document.querySelector("#yes").addEventListener("click", () => done.push("yes"));
</script>"""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose keys note what they do."""
    tab = browser.new_page()
    tab.set_default_timeout(60_000)
    tab.set_content(PAGE)
    tab.add_script_tag(content=(WEB / "keys.js").read_text(encoding="utf-8"))
    yield tab
    tab.close()


def done(page: Any) -> list[str]:
    return page.evaluate("done.splice(0)")


def press(page: Any, *keys: str) -> list[str]:
    for key in keys:
        page.keyboard.press(key)
    return done(page)


def test_keys_press_buttons_and_do_acts_wherever_the_focus_is(page: Any) -> None:
    assert press(page, "y", "z", "Control+z", "Shift+A", "1") == ["yes", "undo", "undo", "all", "one"]
    page.focus("#free")
    assert press(page, "y", "Space") == ["yes", "yes"]


@pytest.mark.parametrize("field", ["#words", "#text", "#edited"])
def test_who_types_is_left_alone(page: Any, field: str) -> None:
    page.focus(field)
    assert press(page, "y", "z", "1", "Space", "Shift+A") == []
    assert "yz1" in page.evaluate("document.activeElement.value ?? document.activeElement.innerText")


def test_keys_with_a_meaning_of_their_own_keep_it(page: Any) -> None:
    page.focus("#slider")
    before = page.evaluate("document.querySelector('#slider').value")
    assert press(page, "ArrowLeft", "y") == ["yes"]
    assert page.evaluate("document.querySelector('#slider').value") != before
    page.focus("#yes")
    assert press(page, "Space") == ["yes"], "pressed once, by the browser"
    assert press(page, "Alt+y", "Control+y", "q") == []


def test_a_button_that_was_clicked_with_the_mouse_is_not_pressed_again_by_a_key(page: Any) -> None:
    page.click("#yes")
    assert page.evaluate("document.activeElement === document.body")
    assert press(page, "z") == ["yes", "undo"]


def test_a_key_that_is_held_down_decides_once(page: Any) -> None:
    for _ in range(4):
        page.keyboard.down("y")
        page.keyboard.down("z")
    page.keyboard.up("y")
    page.keyboard.up("z")
    told = done(page)
    assert told.count("yes") == 1
    assert told.count("undo") >= 1


def test_while_the_help_is_open_no_key_acts(page: Any) -> None:
    page.keyboard.press("?")
    assert page.locator("dialog.keys[open]").count() == 1
    assert press(page, "y", "z") == []
    page.keyboard.press("?")
    assert page.locator("dialog.keys[open]").count() == 0
    page.click(".keys-help")
    page.keyboard.press("Escape")
    assert press(page, "y") == ["yes"]


@st.composite
def walks(draw: st.DrawFn) -> list[Any]:
    """Boxes drawn (a number), and steps back and forth."""
    return draw(st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["undo", "redo", "save"])), max_size=25))


def test_undo_and_redo_walk_over_the_very_states_that_were_there(page: Any) -> None:
    """Held against a list of states and a place in it."""
    page.add_script_tag(content=(WEB / "labeller.js").read_text(encoding="utf-8"))

    @settings(max_examples=80, deadline=None)
    @given(walks())
    def agree(walk: list[Any]) -> None:
        states, at, saved, expected = [[]], 0, [], []
        for step in walk:
            if step == "undo":
                at = max(at - 1, 0)
            elif step == "redo":
                at = min(at + 1, len(states) - 1)
            elif step == "save":
                saved = states[at]
            else:
                states, at = [*states[: at + 1], [*states[at], step]], at + 1
            expected.append([states[at], states[at] != saved])
        script = """walk => {
            const box = at => ({xmin: at, ymin: at, xmax: at + 5, ymax: at + 5, label: "car", color: ""});
            const steps = new window.tilehawkLabeller.Steps([]);
            return walk.map(step => {
                if (step === "undo") steps.move(-1);
                else if (step === "redo") steps.move(1);
                else if (step === "save") steps.saved = steps.now;
                else steps.add([...steps.now, box(step)]);
                return [steps.now.map(each => each.xmin), steps.dirty];
            });
        }"""
        assert page.evaluate(script, walk) == expected

    agree()
