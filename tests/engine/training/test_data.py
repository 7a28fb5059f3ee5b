"""Samples, and the order in which they come."""

import numpy as np
import pytest
import torch

from engine.boxes import Boxes
from engine.training.data import TileSamples, batch_indices, pad_to_square, step_generator


@pytest.mark.parametrize(("count", "batch"), [(7, 3), (7, 7), (3, 8), (1, 4), (10, 1)])
def test_every_tile_comes_once_an_epoch(count, batch):
    drawn = [index for step in range(3 * count) for index in batch_indices(count, batch, seed=5, step=step)]
    assert len(drawn) == 3 * count * batch
    for epoch in range(3 * batch):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(batch_indices(20, 20, seed, step)) for seed in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 4


def test_a_step_s_tiles_depend_on_seed_and_step_alone():
    state = torch.random.get_rng_state()
    assert batch_indices(20, 8, 3, 17) == batch_indices(20, 8, 3, 17)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_step_draws_its_own_numbers():
    drawn = {float(torch.rand((), generator=step_generator(seed, step))) for seed in range(3) for step in range(50)}
    assert len(drawn) == 150


def test_smaller_tiles_are_padded_with_black_at_the_right_and_bottom():
    image = pad_to_square(np.full((2, 3, 3), 7, dtype=np.uint8), 4)
    assert image.shape == (3, 4, 4)
    assert image[0].tolist() == [[7, 7, 7, 0], [7, 7, 7, 0], [0] * 4, [0] * 4]


def test_samples_carry_their_boxes():
    pixels = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    samples = TileSamples([pixels, pixels], [Boxes(np.array([[0, 0, 1, 2]]), np.array([4])), Boxes.empty()], 2)
    image, boxes, labels = samples.sample(0)
    assert len(samples) == 2
    assert image[:, 1, 0].tolist() == pixels[1, 0].tolist()
    assert (boxes.tolist(), labels.tolist()) == ([[0, 0, 1, 2]], [4])
    assert samples.sample(1).boxes.shape == (0, 4)
