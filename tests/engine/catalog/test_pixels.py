"""Pixels of tiles: read from their windows, kept within bounds."""

import numpy as np
import pytest
import torch

from engine.boxes import Boxes
from engine.catalog import pixels as module
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.tiles import tiles
from engine.errors import UsageError
from engine.imagery import raster
from engine.records import Ground
from engine.training.data import Relabelled


@pytest.fixture
def filled(workspace, squares, fake):
    squares.fill(workspace, fake("catalog").add_scene)
    with workspace.session(write=False) as session:
        return workspace, tiles(session)


class Counted:
    """Counts what is read."""

    def __init__(self, pixels):
        self.pixels, self.reads = pixels, 0

    def read(self, tile):
        self.reads += 1
        return self.pixels.read(tile)


def test_a_tile_is_its_window_of_its_scene(filled, squares):
    workspace, records = filled
    whole = {name: squares.picture(seed, width=width)[0] for seed, (name, _, width) in enumerate(squares.SCENES)}
    with TilePixels(workspace) as pixels:
        for tile in records:
            x1, y1, x2, y2 = tile.window.xyxy
            assert np.array_equal(pixels.read(tile), whole[tile.scene_name][y1:y2, x1:x2])


def test_a_scene_is_read_whatever_caps_the_next_ingest_would_have(filled, monkeypatch):
    workspace, records = filled
    given = []

    def opened(path, limits):
        given.append(limits)
        return raster.Raster(path, limits)

    monkeypatch.setattr(module, "Raster", opened)
    with TilePixels(workspace) as pixels:
        assert pixels.read(records[0]).shape == (64, 64, 3)
    assert given == [raster.AS_TAKEN_IN]
    assert all(getattr(raster.AS_TAKEN_IN, cap) > 1000 * getattr(raster.DEFAULT_LIMITS, cap) for cap in ("max_pixels", "max_bands"))


def test_few_scenes_are_open_at_a_time_and_none_afterwards(filled, monkeypatch):
    monkeypatch.setattr(module, "OPEN_SCENES", 2)
    workspace, records = filled
    with TilePixels(workspace) as pixels:
        for tile in [*records, *records]:
            pixels.read(tile)
            assert len(pixels._open) <= 2
    assert not pixels._open


@pytest.mark.parametrize(("capacity", "reads"), [(0, 21), (2, 17), (100, 7)])
def test_the_cache_keeps_within_its_bound(filled, capacity, reads):
    workspace, records = filled
    with TilePixels(workspace) as pixels:
        counted = Counted(pixels)
        source = WorkspaceTiles(counted, records, {}, 64, cache_bytes=capacity * 3 * 64 * 64)
        for _ in range(3):
            for index in range(len(source)):
                source.image(index)
    assert counted.reads == reads


def test_samples_have_their_boxes_and_are_padded_at_the_right_and_bottom(filled):
    workspace, records = filled
    known = {records[1].id: Boxes(np.array([[1, 2, 30, 40]]), np.array([1]))}
    with TilePixels(workspace) as pixels:
        source = WorkspaceTiles(pixels, records, known, 96)
        assert source.sample(0).boxes.shape == (0, 4)
        image, boxes, labels = source.sample(1)[:3]
    assert (boxes.tolist(), labels.tolist()) == ([[1, 2, 30, 40]], [1])
    assert image.shape == (3, 96, 96)
    assert image[:, :64, :64].float().mean() > 20
    assert image[:, 64:].sum() == image[:, :, 64:].sum() == 0


def test_a_sample_knows_its_ground_whatever_its_boxes_are(filled):
    workspace, records = filled
    with TilePixels(workspace) as pixels:
        source = WorkspaceTiles(pixels, records, {}, 96)
        boxes, labels = [torch.zeros(0, 4)] * len(records), [torch.zeros(0, dtype=torch.long)] * len(records)
        for index, tile in enumerate(records):
            assert source.sample(index).ground == Ground(tile.scene_id, tile.window)
            assert Relabelled(source, boxes, labels).sample(index).ground == Ground(tile.scene_id, tile.window)


def test_messages_call_a_tile_by_its_scene_and_window(filled):
    workspace, records = filled
    with TilePixels(workspace) as pixels:
        assert WorkspaceTiles(pixels, records, {}, 96).name(1) == f"{records[1].scene_name} {records[1].window.xyxy}"


def test_tiles_that_do_not_fit_are_refused_before_one_is_read(filled):
    workspace, records = filled
    with TilePixels(workspace) as pixels, pytest.raises(UsageError, match=r"Set detector\.image_size to 64"):
        WorkspaceTiles(pixels, records, {}, 32)
