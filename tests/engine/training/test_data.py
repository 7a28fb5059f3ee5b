"""Samples, and the order in which they come."""

import numpy as np
import pytest
import torch

from engine.boxes import Boxes
from engine.training.data import TileSamples, pad_to_square, read_batches, readable, step_generator, stream_indices


@pytest.mark.parametrize(("count", "taken"), [(7, 3), (7, 7), (3, 8), (1, 4), (10, 1)])
def test_every_tile_comes_once_an_epoch(count, taken):
    drawn = [index for first in range(0, 3 * count * taken, taken) for index in stream_indices(count, first, first + taken, seed=5)]
    assert len(drawn) == 3 * count * taken
    for epoch in range(3 * taken):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(stream_indices(20, first, first + 20, seed)) for seed in (0, 1) for first in (0, 20)]
    assert len(set(orders)) == 4


def test_the_stream_depends_on_its_arguments_alone():
    state = torch.random.get_rng_state()
    assert stream_indices(20, 30, 50, 3) == stream_indices(20, 30, 40, 3) + stream_indices(20, 40, 50, 3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_step_draws_its_own_numbers():
    drawn = {float(torch.rand((), generator=step_generator(seed, step))) for seed in range(3) for step in range(50)}
    assert len(drawn) == 150
    assert float(torch.rand((), generator=step_generator(0, 0, "plan"))) not in drawn


def test_smaller_tiles_are_padded_with_black_at_the_right_and_bottom():
    image = pad_to_square(np.full((2, 3, 3), 7, dtype=np.uint8), 4)
    assert image.shape == (3, 4, 4)
    assert image[0].tolist() == [[7, 7, 7, 0], [7, 7, 7, 0], [0] * 4, [0] * 4]


def test_samples_carry_their_boxes():
    pixels = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    samples = TileSamples([pixels, pixels], [Boxes(np.array([[0, 0, 1, 2]]), np.array([4])), Boxes.empty()], 2)
    image, boxes, labels = samples.sample(0)[:3]
    assert len(samples) == 2
    assert image[:, 1, 0].tolist() == pixels[1, 0].tolist()
    assert (boxes.tolist(), labels.tolist()) == ([[0, 0, 1, 2]], [4])
    assert samples.sample(1).boxes.shape == (0, 4)
    assert (samples.name(1), TileSamples([pixels], [Boxes.empty()], 2, names=["a.png"]).name(0)) == ("number 1", "a.png")


def test_tiles_that_cannot_be_read_are_passed_over(fake):
    source = fake("training").tiles(7, unreadable=(1, 2, 6))
    assert [index for index, _ in readable(source, [6, 5, 1, 0])] == [5, 0]
    batches = list(read_batches(source, range(7), 3))
    assert [indices for indices, _ in batches] == [[0, 3, 4], [5]]
    assert torch.equal(batches[0][1][2], source.sample(4).image)


def test_no_readable_tile_gives_no_batch(fake):
    assert list(read_batches(fake("training").tiles(2, unreadable=(0, 1)), range(2), 3)) == []
