import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.naming import stems
from engine.boxes import Boxes
from engine.imagery.names import name_refusal
from engine.records import ImageLabels


def named(*names):
    return stems([ImageLabels(name, 1, 1, Boxes.empty()) for name in names])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.tif", "in/b.c.png"], ["a", "in/b.c"]),
        (["a.tif", "a.png", "x/a.png"], ["a.tif", "a.png", "x/a"]),
        (["A.tif", "a.png"], ["A.tif", "a.png"]),
        (["a.tif", "a.tif"], ["a.tif", "image-2"]),
        (["a.tif", "a.png", "a.tif.jpg"], ["a.tif", "a.png", "image-3"]),
        (["../a.tif", "/etc/passwd", "", "a\\b", "x" * 300], [f"image-{number}" for number in range(1, 6)]),
    ],
)
def test_a_stem_is_the_name_without_its_suffix_where_that_is_a_plain_name_of_its_own(names, expected):
    assert named(*names) == expected


@given(st.lists(st.text(alphabet="aB./\\ \u202e\x00", max_size=6), max_size=8))
def test_stems_are_plain_and_distinct(names):
    found = named(*names)
    assert len({stem.casefold() for stem in found}) == len(names)
    assert [name_refusal(f"{stem}.txt") for stem in found] == [None] * len(names)
