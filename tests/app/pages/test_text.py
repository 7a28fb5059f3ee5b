"""HTML from values: nothing that a name contains becomes markup."""

from __future__ import annotations

import pytest

from app.pages import text
from engine.errors import UsageError

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
        lambda name: text.figures({name: name}),
        lambda name: text.legend({name: ((0, 0, 0), (255, 0, 0))}, name),
        lambda name: text.note(text.joined(name, text.link(f"/review?tile={name}", name))),
        lambda name: text.tile_cards([text.TileCard(f"/tiles/1.png?{name}", name, [name], [name], f"/review?tile={name}")]),
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


def test_a_legend_goes_from_one_colour_to_the_other():
    assert "linear-gradient(90deg,#000000,#ff8000)" in text.legend({"spent": ((0, 0, 0), (255, 128, 0))})


def test_an_error_may_be_no_problem():
    error = UsageError("nothing measured", remedy="Measure")
    assert 'class="card problem"' in text.problem(error)
    assert 'class="card readonly"' in text.problem(error, kind="readonly")
