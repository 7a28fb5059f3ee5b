"""The regions of a run: of no more tiles than asked for, and found once."""

import pytest
import torch

from engine.models.detector import Detector
from engine.pretext.plan import taught_regions
from engine.pretext.regions import RegionConfig


@pytest.fixture
def config():
    proposals = {"boxes": 8, "grid": 64, "colours": [2, 3], "least_cells": 6}
    return RegionConfig.from_mapping({"clusters": 3, "crop": 32, "proposals": proposals, "tiles": 4})


def taught(squares, config, source, keep, seed=0):
    torch.manual_seed(0)
    network = Detector(squares.TINY, config.classes)
    return taught_regions(network, config, source, seed=seed, keep=keep)


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


def test_the_same_run_finds_its_regions_again(squares, config, tmp_path):
    first = taught(squares, config, squares.samples(9), tmp_path)
    written = (tmp_path / "regions.safetensors").read_bytes()
    again = taught(squares, config, squares.samples(9), tmp_path)
    assert names(again) == names(first)
    assert all(torch.equal(again.sample(index).boxes, first.sample(index).boxes) for index in range(4))
    assert (tmp_path / "regions.safetensors").read_bytes() == written
    fewer = config.model_copy(update={"tiles": 3})
    assert len(taught(squares, fewer, squares.samples(9), tmp_path)) == 3
