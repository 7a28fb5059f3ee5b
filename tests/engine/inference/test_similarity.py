"""Descriptions of grids and patches, and windows that look like a query."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.inference.similarity import (
    Windows,
    best_windows,
    cut_patches,
    describe_grid,
    describe_patches,
    grid_stride,
    like_windows,
    mean_on_grid,
    similarity_maps,
    size_difference,
)
from engine.models.detector import Detector
from engine.training.loop import seeded


@pytest.fixture(scope="module")
def model(squares):
    with seeded(0):
        return Detector(squares.TINY, 0).eval()


def units(*shape, seed=0):
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_grid_has_one_unit_vector_a_stride(model, squares):
    images = torch.stack([squares.samples(2).sample(index).image for index in range(2)]).float() / 255
    grid = describe_grid(model, images)
    assert (grid_stride(model), grid.dtype, grid.shape[0], grid.shape[2:]) == (16, np.float16, 2, (4, 4))
    assert np.allclose(np.linalg.norm(grid.astype(np.float32), axis=1), 1, atol=1e-2)


def test_patches_are_what_the_box_shows(squares):
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[0, 16:32, 32:48] = 255
    patches = cut_patches(image, torch.tensor([[32.0, 16, 48, 32], [0, 0, 16, 16]]), size=32)
    assert patches.shape == (2, 3, 32, 32)
    assert patches[0, 0, 4:-4, 4:-4].min() == pytest.approx(1.0)
    assert patches[0, 1:].max() == patches[1].max() == 0


def test_patches_are_described_by_unit_vectors_whatever_the_batch(model):
    patches = torch.rand(70, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    described = describe_patches(model, patches)
    assert torch.allclose(described.norm(dim=1), torch.ones(70), atol=1e-5)
    assert torch.allclose(described[66:], describe_patches(model, patches[66:]), atol=1e-4)


def test_what_a_grid_shows_in_a_box_is_the_mean_of_its_cells_less_the_centre():
    grid = units(1, 8, 4, 4)
    centre = 0.1 * torch.ones(8)
    found = mean_on_grid(grid, torch.tensor([[0.0, 16, 0, 32, 16]]), centre, stride=16)
    assert torch.allclose(found[0], functional.normalize(grid[0, :, 0, 1] - centre, dim=0), atol=0.35)
    assert found.norm() == pytest.approx(1.0)


def test_similarity_is_the_cosine_of_what_is_left_without_the_centre():
    grid, centre = units(2, 8, 3, 5), 0.2 * units(1, 8, seed=1)[0]
    query = units(1, 8, seed=2)[0]
    expected = functional.cosine_similarity(grid - centre[None, :, None, None], query[None, :, None, None], dim=1)
    assert torch.allclose(similarity_maps(grid.half(), query, centre), expected, atol=5e-3)


def test_sizes_differ_by_their_ratio_whatever_the_shape_and_the_direction():
    query = torch.tensor([10.0, 10, 30, 20])
    boxes = torch.tensor([[0.0, 0, 20, 10], [50, 0, 60, 20], [0, 0, 40, 20], [0, 0, 10, 5]])
    assert size_difference(boxes, query).tolist() == pytest.approx([0.0, 0.0, np.log(2), np.log(2)], abs=1e-6)


def bright(*spots, tiles=2):
    """Maps of 10 × 10 cells of 16 px, alike in 2 × 2 cells from each (tile, row, column)."""
    maps = torch.zeros(tiles, 10, 10)
    for tile, row, column in spots:
        maps[tile, row : row + 2, column : column + 2] = 1.0
    return maps


def look(maps, *, count=10, extents=None, size=(32.0, 32.0)):
    extents = torch.full((len(maps), 2), 160) if extents is None else torch.tensor(extents)
    return like_windows(maps, extents, size, stride=16, count=count)


def test_windows_lie_on_what_is_alike_first():
    found = look(bright((0, 2, 6), (1, 5, 1)), count=2)
    assert sorted(found.tile_index.tolist()) == [0, 1]
    expected = {0: [96, 32, 128, 64], 1: [16, 80, 48, 112]}
    for tile, box in zip(found.tile_index.tolist(), found.boxes.tolist(), strict=True):
        assert box == pytest.approx(expected[tile], abs=8)


def test_what_stands_out_is_preferred_to_what_is_alike_all_over():
    maps = bright((0, 4, 4))
    maps[1] = 0.9
    assert look(maps).tile_index[0] == 0


def test_windows_fall_in_likeness_and_do_not_cover_one_another():
    found = look(torch.rand(3, 10, 10, generator=torch.Generator().manual_seed(0)), count=30)
    assert (found.likeness.diff() <= 0).all()
    for tile in range(3):
        boxes = found.boxes[found.tile_index == tile]
        sides = (torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - torch.maximum(boxes[:, None, :2], boxes[None, :, :2])).clamp(min=0)
        shared = sides.prod(-1)
        area = shared.diagonal()
        overlap = shared / (area[:, None] + area - shared)
        assert (overlap - torch.eye(len(boxes))).max() <= 0.5 + 1e-5


@pytest.mark.parametrize("extent", [(160, 160), (80, 160), (40, 40)])
def test_windows_end_where_the_tile_ends(extent):
    found = look(torch.rand(1, 10, 10, generator=torch.Generator().manual_seed(0)), extents=[extent])
    assert len(found.boxes)
    assert (found.boxes[:, 2:] <= torch.tensor(extent) + 4).all()
    assert found.boxes.min() >= -4


@pytest.mark.parametrize("size", [(4.0, 4.0), (150.0, 20.0), (400.0, 400.0)])
def test_any_size_of_query_gives_finite_windows(size):
    found = look(torch.rand(1, 10, 10), size=size)
    assert torch.isfinite(found.likeness).all()
    assert torch.isfinite(found.boxes).all()


def test_turned_objects_are_found_in_windows_turned_with_them():
    maps = torch.zeros(1, 10, 10)
    maps[0, 2:8, 4:6] = 1.0
    assert look(maps, size=(96.0, 32.0)).boxes[0].tolist() == pytest.approx([64, 32, 96, 128], abs=8)


def test_the_best_of_two_lots_are_the_best_of_both():
    one = Windows(torch.tensor([0, 1]), torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]]), torch.tensor([0.5, 0.1]))
    two = Windows(torch.tensor([0, 2]), torch.tensor([[0.0, 0, 9, 8], [0, 0, 9, 9]]), torch.tensor([0.4, 0.3]))
    best = best_windows(Windows(*(torch.cat(parts) for parts in zip(one, two, strict=True))), 2)
    assert (best.tile_index.tolist(), best.likeness.tolist()) == ([0, 2], pytest.approx([0.5, 0.3]))
