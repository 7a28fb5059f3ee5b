import numpy as np
import pytest

from engine.imagery.colour import ColourRule, choose_bands, percentile_range


@pytest.mark.parametrize(
    ("meanings", "bands"),
    [
        (["gray"], (1,)),
        (["palette"], (1,)),
        (["gray", "alpha"], (1,)),
        (["red", "green", "blue"], (1, 2, 3)),
        (["red", "green", "blue", "alpha"], (1, 2, 3)),
        (["blue", "green", "red", "undefined"], (3, 2, 1)),
        (["undefined"] * 3, (1, 2, 3)),
        (["gray", "undefined", "undefined", "undefined"], (1, 2, 3)),
        (["coastal", "blue", "green", "red", "nir"], (4, 3, 2)),
        (["undefined"] * 8, None),
        (["gray", "undefined"], None),
        (["cyan", "magenta", "yellow", "black"], None),
        (["Y", "Cb", "Cr"], None),
    ],
)
def test_bands_are_chosen_by_what_they_are_declared_to_be(meanings, bands):
    assert choose_bands(meanings) == bands


def test_a_stretch_runs_from_low_to_high_and_clips():
    rule = ColourRule((1,), ranges=((100.0, 300.0),))
    raw = np.array([[[0, 100, 200, 300, 65535]]], dtype=np.uint16)
    assert rule.apply(raw)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_values_that_are_not_finite_become_black_and_do_not_move_the_range():
    values = np.array([1.0, np.nan, 3.0, np.inf, 2.0])
    low, high = percentile_range(values)
    assert 1.0 <= low < high <= 3.0
    rgb = ColourRule((1,), ranges=((low, high),)).apply(values.reshape(1, 1, 5))
    assert rgb[0, 1].tolist() == rgb[0, 3].tolist() == [0, 0, 0]


def test_a_flat_band_becomes_black_and_an_empty_one_has_a_range():
    assert percentile_range(np.array([])) == (0.0, 0.0)
    assert not ColourRule((1,), ranges=((7.0, 7.0),)).apply(np.full((1, 2, 2), 7, dtype=np.uint16)).any()


def test_a_palette_gives_its_colours():
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[3] = (10, 20, 30)
    assert ColourRule((1,), palette=palette).apply(np.full((1, 2, 2), 3, dtype=np.uint8))[1, 1].tolist() == [10, 20, 30]
