"""The weight of doubt over the labels."""

import pytest

from engine.selection.config import SelectionConfig, uncertainty_weight


@pytest.mark.parametrize(
    ("boxes", "classes", "expected"), [(0, 1, 0), (20, 1, 0), (60, 1, 0.15), (100, 1, 0.3), (9999, 1, 0.3), (100, 2, 0.1125)]
)
def test_the_weight_of_doubt_grows_with_the_labels(boxes: int, classes: int, expected: float) -> None:
    assert uncertainty_weight(boxes, classes, SelectionConfig()) == pytest.approx(expected)


def test_the_weight_may_jump() -> None:
    config = SelectionConfig(coverage_boxes_per_class=50, full_boxes_per_class=50)
    assert [uncertainty_weight(boxes, 1, config) for boxes in (49, 50)] == [0, config.uncertainty_share]
