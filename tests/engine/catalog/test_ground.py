import numpy as np
import pytest

from engine.catalog.ground import footprints, reconcile
from engine.records import Window

NORTH_UP = (0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0)


def at(*corners: tuple[int, int, int, int]):
    return footprints([Window(*corner) for corner in corners], None)


def test_footprints_lie_where_the_transform_puts_them():
    assert footprints([Window(10, 20, 4, 6)], NORTH_UP)[0].bounds == (1005.0, 1987.0, 1007.0, 1990.0)
    assert footprints([Window(10, 20, 4, 6)], None)[0].bounds == (10, 20, 14, 26)
    assert len(footprints([], NORTH_UP)) == 0


def test_a_rotated_footprint_keeps_its_area():
    turned = footprints([Window(0, 0, 10, 20)], (0.6, -0.8, 0.0, 0.8, 0.6, 0.0))[0]
    assert turned.area == pytest.approx(200)
    assert turned.bounds == pytest.approx((-16, 0, 6, 20))


@pytest.mark.guarantee("G42")
@pytest.mark.parametrize(
    ("own", "taken", "taken_splits", "settled"),
    [
        ("train", [(100, 0, 10, 10)], ["test"], "train"),
        ("train", [(10, 0, 10, 10)], ["test"], "train"),
        ("train", [(5, 0, 10, 10)], ["test"], "none"),
        ("test", [(5, 0, 10, 10)], ["test"], "test"),
        ("train", [(0, 0, 10, 10)], ["test"], "test"),
        ("train", [(0, 0, 5, 10), (5, 0, 5, 10)], ["test", "test"], "test"),
        ("train", [(0, 0, 5, 10), (5, 0, 5, 10)], ["test", "dev"], "none"),
        ("train", [(0, 0, 5, 10), (5, 0, 5, 10)], ["test", "train"], "none"),
        ("none", [(5, 0, 10, 10)], ["test"], "none"),
        ("train", [(4, 4, 1, 1)], ["test"], "none"),
    ],
    ids=[
        "apart",
        "abutting",
        "partly",
        "same-split",
        "covered",
        "covered-by-two",
        "two-splits",
        "own-and-other",
        "left-out-already",
        "small-inside-large",
    ],
)
def test_taken_ground_keeps_its_split(own, taken, taken_splits, settled):
    assert reconcile([own], at((0, 0, 10, 10)), at(*taken), taken_splits) == [settled]


def test_without_taken_ground_nothing_changes():
    assert reconcile(["train", "none"], at((0, 0, 1, 1), (5, 5, 1, 1)), np.empty(0, dtype=object), []) == ["train", "none"]
