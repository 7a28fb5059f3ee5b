"""The regions of a run: of no more tiles than asked for, and found once for all runs that ask for the same."""

import os

import pytest
import torch

from engine.models.detector import Detector
from engine.pretext import taught_regions as room
from engine.pretext.regions import RegionConfig
from engine.pretext.taught_regions import RegionStore, taught_regions


@pytest.fixture
def config():
    proposals = {"boxes": 8, "grid": 64, "colours": [2, 3], "least_cells": 6}
    return RegionConfig.from_mapping({"clusters": 3, "crop": 32, "proposals": proposals, "tiles": 4})


@pytest.fixture
def searches(monkeypatch):
    """How often regions were looked for."""
    found = []

    def find(*given, **named):
        found.append(given)
        return find_regions(*given, **named)

    find_regions = room.find_regions
    monkeypatch.setattr(room, "find_regions", find)
    return found


def taught(squares, config, source, folder, seed=0, tiles="tiles", weights=0):
    torch.manual_seed(weights)
    network = Detector(squares.TINY, config.classes)
    return taught_regions(network, config, source, seed=seed, store=None if folder is None else RegionStore(folder, tiles))


def names(source):
    return [source.name(index) for index in range(len(source))]


def test_of_more_tiles_than_asked_for_some_are_drawn(squares, config, tmp_path):
    source = squares.samples(9)
    drawn = taught(squares, config, source, tmp_path)
    assert len(drawn) == 4
    assert set(names(drawn)) < set(names(source))
    assert all(len(drawn.sample(index).boxes) for index in range(4))
    assert names(taught(squares, config, source, None, seed=1)) != names(drawn)
    assert names(taught(squares, config, squares.samples(3), None)) == names(source)[:3]


def test_regions_are_found_once_for_every_run_that_asks_for_the_same(squares, config, tmp_path, searches):
    first = taught(squares, config, squares.samples(9), tmp_path)
    other_run = config.model_copy(update={"absence": 0.5, "alignment_weight": 3.0})
    again = taught(squares, other_run, squares.samples(9), tmp_path)
    assert len(searches) == 1
    assert names(again) == names(first)
    assert all(torch.equal(again.sample(index).boxes, first.sample(index).boxes) for index in range(4))
    assert (first.sample(0).absence, again.sample(0).absence) == (1.0, 0.5)


@pytest.mark.parametrize("change", [{"seed": 1}, {"tiles": "others"}, {"weights": 1}])
def test_regions_of_something_else_are_not_taken(squares, config, tmp_path, searches, change):
    taught(squares, config, squares.samples(9), tmp_path)
    taught(squares, config, squares.samples(9), tmp_path, **change)
    assert len(searches) == 2


@pytest.mark.parametrize("change", [{"tiles": 3}, {"clusters": 2}, {"turned": True}, {"crop": 48}])
def test_other_settings_find_regions_anew(squares, config, tmp_path, searches, change):
    taught(squares, config, squares.samples(9), tmp_path)
    assert len(taught(squares, config.model_copy(update=change), squares.samples(9), tmp_path)) == change.get("tiles", 4)
    assert len(searches) == 2


def test_a_damaged_file_is_made_anew(squares, config, tmp_path, searches):
    taught(squares, config, squares.samples(9), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    taught(squares, config, squares.samples(9), tmp_path)
    assert len(searches) == 2
    assert path.read_bytes() == whole


def test_the_files_used_last_stay(squares, config, tmp_path, searches):
    for seed in range(room.KEPT):
        taught(squares, config, squares.samples(9), tmp_path, seed=seed)
    for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda each: each.stat().st_mtime_ns)):
        os.utime(path, (age, age))
    taught(squares, config, squares.samples(9), tmp_path, seed=0)
    taught(squares, config, squares.samples(9), tmp_path, seed=99)
    assert len(list(tmp_path.iterdir())) == room.KEPT
    taught(squares, config, squares.samples(9), tmp_path, seed=0)
    assert len(searches) == room.KEPT + 1
    taught(squares, config, squares.samples(9), tmp_path, seed=1)
    assert len(searches) == room.KEPT + 2


def test_what_a_crash_left_half_written_goes(squares, config, tmp_path):
    (tmp_path / ".tmp-0-half.safetensors").write_bytes(b"half")
    taught(squares, config, squares.samples(9), tmp_path)
    assert [path.name.startswith(".tmp-") for path in tmp_path.iterdir()] == [False]
