"""The benchmark of forecasts: a recorded run is asked with the error of the ground on which it was measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from engine.files import write_json
from engine.selection.forecast.ensemble import sampling_error


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_forecast", Path(__file__).parent / "forecast.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_forecast"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("stored", "named", "boxes"),
    [({"test_boxes": 400}, None, 400), ({"test_boxes": 400}, 90, 400), ({"test_boxes": None}, 90, 90), ({}, 90, 90)],
)
def test_the_error_is_that_of_the_test_boxes(bench, tmp_path, stored, named, boxes):
    rounds = [{"boxes": 10 * n, "seconds": 100.0 * n, "measured": {"ap50": 0.2 * n, **stored}} for n in (1, 2, 3)]
    write_json(tmp_path / "tilehawk-0.json", {"rounds": rounds})
    (run,) = bench.recorded_runs([tmp_path], "boxes", named)
    assert run.errors == pytest.approx(sampling_error(run.ap50, run.amounts * 0 + boxes))
    assert (run.errors > 0).all()


def test_nothing_is_known_of_the_error_where_nobody_says_the_boxes(bench, tmp_path):
    write_json(tmp_path / "tilehawk-0.json", [{"boxes": 10, "seconds": 1.0, "ap50": 0.2}])
    (run,) = bench.recorded_runs([tmp_path], "boxes", None)
    assert run.errors.tolist() == [0.0]
