from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.imagery.tiling import windows
from engine.records import Window


@st.composite
def tilings(draw):
    tile = draw(st.integers(1, 40))
    return draw(st.integers(1, 130)), draw(st.integers(1, 130)), tile, draw(st.integers(0, tile - 1))


@given(tilings())
def test_every_pixel_is_covered_and_no_window_leaves_the_scene(tiling):
    width, height, tile, overlap = tiling
    covered = np.zeros((height, width), dtype=bool)
    for window in windows(width, height, tile, overlap):
        x1, y1, x2, y2 = window.xyxy
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        covered[y1:y2, x1:x2] = True
    assert covered.all()


@given(tilings())
def test_windows_have_one_size_and_none_comes_twice(tiling):
    width, height, tile, overlap = tiling
    found = windows(width, height, tile, overlap)
    assert {(window.width, window.height) for window in found} == {(min(tile, width), min(tile, height))}
    assert len(set(found)) == len(found)


@given(tilings())
def test_neighbours_share_at_least_the_overlap(tiling):
    width, _, tile, overlap = tiling
    starts = [window.x for window in windows(width, 1, tile, overlap)]
    assert all(left + tile - right >= overlap for left, right in pairwise(starts))


def test_the_last_column_is_moved_inward():
    assert windows(100, 30, 40, 10) == [Window(0, 0, 40, 30), Window(30, 0, 40, 30), Window(60, 0, 40, 30)]
    assert [window.x for window in windows(95, 30, 40, 10)] == [0, 30, 55]


@pytest.mark.parametrize(("width", "height", "tile", "overlap"), [(0, 5, 4, 0), (5, 0, 4, 0), (5, 5, 0, 0), (5, 5, 4, 4), (5, 5, 4, -1)])
def test_impossible_sizes_are_refused(width, height, tile, overlap):
    with pytest.raises(UsageError):
        windows(width, height, tile, overlap)
