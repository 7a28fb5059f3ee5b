import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.boxes import box_iou
from engine.inference import overlapping
from engine.inference.overlapping import intersection_areas, overlapping_pairs


def random_boxes(generator, number, extent, smallest, largest):
    corner = generator.uniform(-extent, extent, (number, 2))
    return np.concatenate([corner, corner + np.exp(generator.uniform(np.log(smallest), np.log(largest), (number, 2)))], axis=1)


def pairs(a, b):
    return sorted((int(i), int(j)) for part in overlapping_pairs(a, b) for i, j in zip(*part, strict=True))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), number=st.integers(0, 60), largest=st.sampled_from([1.0, 30.0, 5000.0]))
def test_every_overlapping_pair_is_given_exactly_once(seed, number, largest):
    generator = np.random.default_rng(seed)
    a, b = random_boxes(generator, number, 100, 0.01, largest), random_boxes(generator, 40, 100, 0.01, largest)
    assert pairs(a, b) == sorted((int(i), int(j)) for i, j in zip(*np.nonzero(box_iou(a, b)), strict=True))


def test_crowded_boxes_come_in_several_parts_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(overlapping, "PAIRS_AT_ONCE", 64)
    boxes = random_boxes(np.random.default_rng(1), 50, 1, 8, 9)
    parts = list(overlapping_pairs(boxes, boxes))
    assert max(len(i) for i, _ in parts) <= 64
    assert pairs(boxes, boxes) == [(i, j) for i in range(50) for j in range(50)]


@pytest.mark.parametrize(
    ("a", "b", "area"),
    [
        pytest.param([0, 0, 4, 4], [2, 1, 6, 3], 4.0, id="overlap"),
        pytest.param([0, 0, 4, 4], [4, 0, 8, 4], 0.0, id="touching"),
        pytest.param([0, 0, 4, 4], [9, 9, 10, 10], 0.0, id="apart in both"),
    ],
)
def test_intersection_area(a, b, area):
    assert intersection_areas(np.array([a], dtype=float), np.array([b], dtype=float)) == [area]
