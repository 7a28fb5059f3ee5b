"""The learning curve."""

from __future__ import annotations

import io

from PIL import Image

from app.pictures import curve_png, curve_points
from engine.catalog.summary import RoundSummary
from engine.evaluation.drawing import CurvePoint


def round_of(number, estimated, measured, metrics):
    return RoundSummary(number, "balanced", "trained", 3, 600.0, estimated, measured, metrics)


def test_minutes_add_up_over_rounds_and_measured_ones_count():
    rounds = [
        round_of(1, 60.0, 120.0, {"ap": 0.1, "ap50": 0.2}),
        round_of(2, 60.0, None, {}),
        round_of(3, 60.0, 60.0, {"ap": 0.2, "ap50": 0.4}),
    ]
    assert curve_points(rounds) == [CurvePoint(2.0, 0.1, 0.2), CurvePoint(4.0, 0.2, 0.4)]


def test_curve_is_a_picture_with_something_in_it():
    picture = Image.open(io.BytesIO(curve_png([CurvePoint(1, 0.1, 0.3), CurvePoint(4, 0.2, 0.5)])))
    assert picture.format == "PNG"
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
