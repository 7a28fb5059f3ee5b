"""The benchmark of budgets: the same object in two windows is one, and results of other settings are left alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.files import write_json


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_budget", Path(__file__).parent / "budget.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_budget"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Pictures of 480 x 320 px with an object in the middle, which both windows of 320 px show, and one at the left."""
    folder = tmp_path / "nwpu_vhr10"
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, numbers in (("train", range(5)), ("val", range(5, 7))):
        images = [{"id": number, "file_name": f"{number}.png"} for number in numbers]
        for entry in images:
            pixels = generator.integers(0, 255, (320, 480, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / entry["file_name"])
        places = ([200, 100, 60, 60], [10, 10, 50, 50])
        known = [{"image_id": each["id"], "category_id": 1, "bbox": place} for each in images for place in places]
        write_json(folder / f"{split}.json", {"images": images, "annotations": known, "categories": [{"id": 1, "name": "ship"}]})
    monkeypatch.setenv("TILEHAWK_DATA", str(tmp_path))
    return tmp_path / "out"


def call(bench, monkeypatch, *words):
    """The replays that the command line asks for, none of which is run."""
    asked = []
    monkeypatch.setattr(bench.Bench, "run", lambda self, strategy, seed: asked.append((strategy, seed)))
    monkeypatch.setattr(bench.Bench, "all", lambda self, seed: asked.append(("all", seed)))
    monkeypatch.setattr(sys, "argv", ["budget.py", *map(str, words)])
    bench.main()
    return asked


def test_an_object_in_two_windows_has_one_number(bench, data):
    folder = data.parent / "nwpu_vhr10"
    document = json.loads((folder / "train.json").read_text())
    windows = bench.cut(folder, document, document["images"][:2], 192)
    assert [len(known) for known in windows.boxes] == [2, 1, 2, 1]
    assert [each.tolist() for each in windows.objects] == [[0, 1], [0], [2, 3], [2]]


def test_results_of_other_settings_are_neither_gone_on_with_nor_mixed_with_new_ones(bench, data, monkeypatch):
    first = (data, "run", "random", "--seeds", 0)
    assert call(bench, monkeypatch, *first) == [("random", 0)]
    assert call(bench, monkeypatch, *first, "--threads", 3) == [("random", 0)]
    assert call(bench, monkeypatch, data, "all", "--seeds", 0) == [("all", 0)]
    weights = data.parent / "weights"
    weights.write_bytes(b"weights")
    for words, said in (
        (["--images-seen", 4800], "schedule.images_seen was 2400 and is 4800"),
        (["--passes", 12], "schedule.passes was 0.0 and is 12.0"),
        (["--size", 320], "detector.image_size was 192 and is 320"),
        (["--start", weights], "start was None and is "),
        (["--selection", '{"prices": {"draw": 20}}'], "config.selection.prices.draw was 12.0 and is 20.0"),
    ):
        with pytest.raises(SystemExit, match=said) as refused:
            call(bench, monkeypatch, *first, *words)
        assert "Name another OUT" in str(refused.value)


def test_a_strategy_is_not_gone_on_with_by_other_rules(bench, data, monkeypatch):
    first = (data, "run", "tilehawk", "--seeds", 0)
    call(bench, monkeypatch, *first)
    file = data / "test" / "whole" / "tilehawk-0.json"
    settings = json.loads((file.parent / bench.SETTINGS).read_text())
    write_json(
        file, {"strategy": "tilehawk", "seed": 0, "config": settings["config"], "charging": bench.CHARGING, "rounds": [{"round": 0}]}
    )
    other = ["--selection", '{"audit_share": 0.0}']
    assert call(bench, monkeypatch, *first) == [("tilehawk", 0)]
    assert call(bench, monkeypatch, *first, *other, "--name", "without") == [("tilehawk", 0)]
    with pytest.raises(SystemExit, match=r"audit_share was 0\.1 and is 0\.0"):
        call(bench, monkeypatch, *first, *other)


def test_results_from_before_objects_were_charged_once_are_left_alone(bench, data, monkeypatch):
    write_json(data / "test" / "whole" / "random-1.json", {"strategy": "random", "seed": 1, "rounds": [{"round": 0}]})
    with pytest.raises(SystemExit, match=r"random-1\.json was made with other settings: charging was None and is 2"):
        call(bench, monkeypatch, data, "run", "random", "--seeds", 0)
