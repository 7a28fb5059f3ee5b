"""The picture of a forecast."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.evaluation.learning_curve import ForecastCurve, write_learning_curve

SHOWN = np.linspace(50, 900, 40)
CURVE = ForecastCurve(
    measured_boxes=np.array([100.0, 200, 300]),
    measured_ap50=np.array([0.2, 0.31, 0.37]),
    errors=np.array([0.01, 0.0, 0.01]),
    boxes=SHOWN,
    low=0.1 + SHOWN / 3000,
    middle=0.12 + SHOWN / 2500,
    high=0.14 + SHOWN / 2000,
    interval=0.8,
    boxes_now=300.0,
    boxes_then=800.0,
    hours_per_box=1 / 90,
    hourly_rate=30.0,
    currency="€",
)


def drawn(curve: ForecastCurve, path: Path) -> np.ndarray:
    write_learning_curve(curve, path)
    return np.asarray(Image.open(path))


def test_the_picture_is_the_same_for_the_same_forecast_and_changes_with_it(tmp_path: Path) -> None:
    first = drawn(CURVE, tmp_path / "a.png")
    assert first.shape[:2] == (576, 864)
    assert np.array_equal(first, drawn(CURVE, tmp_path / "b.png"))
    for change in (
        {"middle": CURVE.middle + 0.05},
        {"boxes_then": 700.0},
        {"hourly_rate": 60.0},
        {"measured_ap50": CURVE.measured_ap50 / 2},
    ):
        assert not np.array_equal(first, drawn(replace(CURVE, **change), tmp_path / "c.png")), change


@pytest.mark.parametrize("currency", ["$", "$x^", "元", ""])
def test_any_name_of_money_is_drawn_as_it_stands(currency: str, tmp_path: Path) -> None:
    assert not np.array_equal(drawn(CURVE, tmp_path / "a.png"), drawn(replace(CURVE, currency=currency), tmp_path / "b.png"))


def test_hours_on_the_left_of_today_are_not_written(tmp_path: Path) -> None:
    """With today at the right end no label is left, so that the price cannot show."""
    late = replace(CURVE, boxes_now=900.5, boxes_then=901.0)
    assert np.array_equal(drawn(late, tmp_path / "a.png"), drawn(replace(late, hourly_rate=77.0), tmp_path / "b.png"))
