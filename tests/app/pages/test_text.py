"""HTML from values: nothing that a name contains becomes markup."""

from __future__ import annotations

import pytest

from app.pages import text

HOSTILE = ["<img src=x onerror=alert(1)>.png", '"><svg/onload=alert(1)>', "' onmouseover='x", "a & b"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "render",
    [
        text.note,
        lambda name: text.definitions({name: name}),
        lambda name: text.definitions({"k": {name: 1}}),
        lambda name: text.table([name], [[name]]),
        lambda name: text.gallery([(f"/tiles/1.png?{name}", name)]),
    ],
)
def test_names_are_escaped(render, name):
    shown = render(name)
    assert name not in shown
    assert "<svg" not in shown
    assert "<img src=x" not in shown


def test_numbers_and_missing_values_are_readable():
    assert text.table(["AP"], [[0.123456], [None]]).count("<td>") == 2
    assert "0.1235" in text.table(["AP"], [[0.123456]])
    assert "–" in text.table(["AP"], [[None]])


def test_pictures_have_their_caption_as_alternative_text():
    assert 'alt="scene a"' in text.gallery([("/tiles/1.png", "scene a")])
