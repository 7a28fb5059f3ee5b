"""Unlabelled tiles that join a batch: as many as are asked for on average."""

import pytest
import torch
from torch import nn

from engine.training.augment import AugmentConfig
from engine.training.pool import WithPool


class Counted:
    """How many images each batch had."""

    classes = None

    def __init__(self):
        self.model, self.sizes = nn.Linear(1, 1), []

    def loss(self, batch, _generator, _done=0.0):
        self.sizes.append(len(batch))
        return self.model.weight.sum(), {}


@pytest.mark.parametrize(("share", "images", "mean"), [(0.1, 4, 0.4), (0.125, 1, 0.125), (1.0, 4, 4.0), (1.5, 3, 4.5), (0.0, 4, 0.0)])
def test_a_share_of_tiles_joins_on_average(squares, share, images, mean):
    counted, generator = Counted(), torch.Generator().manual_seed(0)
    task = WithPool(counted, squares.samples(5), AugmentConfig(), share=share)
    batch = [squares.samples(4).sample(index) for index in range(images)]
    for _ in range(200):
        task.loss(batch, generator)
    joined = [size - images for size in counted.sizes]
    assert sum(joined) / len(joined) == pytest.approx(mean, abs=0.1)
    assert set(joined) <= {int(mean), int(mean) + 1}


def test_an_empty_pool_and_tiles_that_cannot_be_read_add_nothing(squares, fake):
    counted = Counted()
    batch = [squares.samples(1).sample(0)]
    WithPool(counted, squares.samples(0), AugmentConfig()).loss(batch, torch.Generator())
    WithPool(counted, fake("training").Torn(squares.samples(2), [0, 1]), AugmentConfig()).loss(batch, torch.Generator())
    assert counted.sizes == [1, 1]


def test_the_pool_alone_is_learned_where_it_is_asked_for(squares, fake):
    counted = Counted()
    batch = [squares.samples(4).sample(index) for index in range(4)]
    WithPool(counted, squares.samples(5), AugmentConfig(), share=0.5, instead=True).loss(batch, torch.Generator())
    assert counted.sizes == [2]
    loss, parts = WithPool(counted, fake("training").Torn(squares.samples(1), [0]), AugmentConfig(), instead=True).loss(
        batch, torch.Generator()
    )
    loss.backward()
    assert (loss.item(), parts, counted.sizes) == (0.0, {}, [2])


def test_a_tile_of_the_pool_says_which_it_is(squares):
    class Asked(Counted):
        def loss(self, batch, generator, done=0.0):
            self.tiles = [sample.tile for sample in batch]
            return super().loss(batch, generator, done)

    asked = Asked()
    task = WithPool(asked, squares.samples(3), AugmentConfig(), share=8.0, instead=True)
    task.loss([squares.samples(1).sample(0)], torch.Generator().manual_seed(0))
    assert set(asked.tiles) == {0, 1, 2}
