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
        (["--passes", 12], "schedule.passes was 4.0 and is 12.0"),
        (["--size", 320], "detector.image_size was 192 and is 320"),
        (["--start", weights], "start was None and is "),
        (["--selection", '{"prices": {"draw": 20}}'], "config.selection.prices.draw was 12.0 and is 20.0"),
        (["--start-seconds", 900], "config.start was 1500.0 and is 900.0"),
        (["--budgets", 900, 1800], r"config.budgets was \[1500.0, 3000.0, 6000.0, 8000.0\] and is \[900.0, 1800.0\]"),
        (["--images", 3], "pool.images was None and is 3"),
    ):
        with pytest.raises(SystemExit, match=said) as refused:
            call(bench, monkeypatch, *first, *words)
        assert "Name another OUT" in str(refused.value)


def test_another_seed_may_start_from_other_weights(bench, data, monkeypatch):
    for name in ("old", "new"):
        (data.parent / name).write_bytes(name.encode())
    old, new = (("--start", data.parent / name) for name in ("old", "new"))
    call(bench, monkeypatch, data, "run", "random", "--seeds", 0, *old)
    assert call(bench, monkeypatch, data, "run", "tilehawk", "--seeds", 1, *new) == [("tilehawk", 1)]
    assert call(bench, monkeypatch, data, "run", "tilehawk", "--seeds", 0, *old) == [("tilehawk", 0)]
    with pytest.raises(SystemExit, match="start was "):
        call(bench, monkeypatch, data, "run", "tilehawk", "--seeds", 0, *new)


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


def test_a_name_is_of_one_strategy(bench, data, monkeypatch):
    first = (data, "run", "tilehawk", "--seeds", 0, "--name", "mine")
    call(bench, monkeypatch, *first)
    file = data / "test" / "whole" / "mine-0.json"
    made = json.loads((file.parent / bench.SETTINGS).read_text()) | {"seed": 0, "rounds": [{"round": 0}]}
    for said in ({"strategy": "mine", bench.CHOSEN_BY: "tilehawk"}, {"strategy": "tilehawk"}):
        write_json(file, made | said)
        assert call(bench, monkeypatch, *first) == [("tilehawk", 0)]
        with pytest.raises(SystemExit, match="the strategy was 'tilehawk' and is 'ppal'"):
            call(bench, monkeypatch, data, "run", "ppal", "--seeds", 0, "--name", "mine")
    assert call(bench, monkeypatch, data, "run", "ppal", "--seeds", 0, "--name", "yours") == [("ppal", 0)]


def test_a_pool_of_few_classes_has_their_boxes_alone(bench, data, monkeypatch):
    folder = data.parent / "nwpu_vhr10"
    for split in ("train", "val"):
        document = json.loads((folder / f"{split}.json").read_text())
        document["categories"].insert(0, {"id": 2, "name": "bridge"})
        document["annotations"].append({"image_id": document["images"][0]["id"], "category_id": 2, "bbox": [300, 200, 60, 60]})
        write_json(folder / f"{split}.json", document)
    made = {}
    monkeypatch.setattr(bench.Bench, "run", lambda self, strategy, seed: made.update({self.folder.name: self}))
    for words in ([], ["--few", "ship"], ["--few", "bridge"]):
        monkeypatch.setattr(sys, "argv", ["budget.py", str(data / "".join(words)), "run", "random", "--seeds", "0", *words])
        bench.main()
        if words:
            assert made["few"].labels.names == tuple(words[1:])
            assert {label for known in made["few"].pool.true for label in known.labels.tolist()} == {0}
            assert (made["few"].pool.boxes, len(made["few"].pool)) == ({"ship": 8, "bridge": 1}[words[1]], len(made["whole"].pool))
    assert made["whole"].pool.boxes == 9
    with pytest.raises(SystemExit, match="--few plane: the classes are bridge, ship"):
        call(bench, monkeypatch, data, "run", "random", "--few", "plane")


def test_rare_classes_are_held_against_random_seed_by_seed(bench, fake, tmp_path):
    numbers = {"random": (0.3, 0.5, 0.4), "tilehawk": (0.4, 0.7, 0.55), "ppal": (0.9,)}
    curves = [fake("curves").curve(name, seed, [0.2]) for name, values in numbers.items() for seed in range(len(values))]
    for curve in curves:
        ap50 = numbers[curve.strategy][curve.seed]
        classes = {str(label): 0.0 for label in range(9)} | {"2": ap50 - 0.1, "5": ap50 + 0.1, "8": None}
        write_json(tmp_path / f"{curve.strategy}-{curve.seed}.json", {"rounds": [{"measured": {"ap50_per_class": classes}}]})
    found = bench.rare_classes(tmp_path, curves)
    assert found["ap50"]["tilehawk"] == pytest.approx({0: 0.4, 1: 0.7, 2: 0.55})
    against = found["minus random"]["tilehawk"]
    assert (against["seeds"], against["mean"]) == (3, pytest.approx(0.15))
    reach = 4.302653 * 0.05 / 3**0.5
    assert against["interval"] == pytest.approx([0.15 - reach, 0.15 + reach], rel=1e-5)
    assert found["minus random"]["ppal"] == {"seeds": 1, "mean": pytest.approx(0.6), "interval": None}


def test_results_from_before_objects_were_charged_once_are_left_alone(bench, data, monkeypatch):
    write_json(data / "test" / "whole" / "random-1.json", {"strategy": "random", "seed": 1, "rounds": [{"round": 0}]})
    with pytest.raises(SystemExit, match=r"random-1\.json was made with other settings: charging was None and is 3"):
        call(bench, monkeypatch, data, "run", "random", "--seeds", 0)
