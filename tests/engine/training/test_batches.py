"""Batches: the same whoever makes them and whenever; what cannot be read is set aside."""

import threading

import numpy as np
import pytest
import torch

from engine.errors import BadInput
from engine.training.augment import AugmentConfig
from engine.training.batches import BatchLoader, prefetched
from engine.training.data import Sample
from engine.training.schedule import plan_steps


@pytest.fixture(scope="module")
def small(fake):
    return fake("training")


def loader(small, source, **changes):
    config = small.schedule(**changes)
    return BatchLoader(source, config, plan_steps(config), {})


def same(one, other):
    pairs = list(zip(one.samples, other.samples, strict=True))
    alike = all(torch.equal(a, b) for mine, theirs in pairs for a, b in zip(mine[:3], theirs[:3], strict=True))
    return one.tiles == other.tiles and alike and all(mine.tile == theirs.tile for mine, theirs in pairs)


MIXED = AugmentConfig(mosaic=0.5)


def test_a_batch_depends_on_its_step_alone(small):
    config = {"augment": MIXED}
    forwards, backwards = loader(small, small.tiles(5), **config), loader(small, small.tiles(5), **config)
    steps = range(len(plan_steps(small.schedule(**config))))
    ahead = {step: forwards.batch(step) for step in steps}
    assert all(same(ahead[step], backwards.batch(step)) for step in reversed(steps))
    assert all(torch.equal(ahead[step].random_state, backwards.batch(step).random_state) for step in steps)


@pytest.mark.parametrize("threads", [0, 1])
def test_batches_come_in_order_whoever_makes_them(small, threads):
    made, reference = (loader(small, small.tiles(5), augment=MIXED, images_seen=100) for _ in range(2))
    with prefetched(made.batch, range(2, 6), threads) as batches:
        got = list(batches)
    assert [batch.step for batch in got] == [2, 3, 4, 5]
    assert all(same(batch, reference.batch(batch.step)) for batch in got)


def test_the_next_batch_is_made_while_the_caller_works_and_no_thread_is_left():
    second = threading.Event()

    def make(step):
        if step == 1:
            second.set()
        return step

    before = threading.active_count()
    with prefetched(make, range(3), 1) as batches:
        assert next(batches) == 0
        assert second.wait(10)
    assert threading.active_count() == before


def test_what_goes_wrong_in_the_thread_reaches_the_caller(small):
    def make(step):
        if step == 1:
            raise BadInput("no such batch")
        return step

    with prefetched(make, range(3), 1) as batches:
        assert next(batches) == 0
        with pytest.raises(BadInput, match="no such batch"):
            next(batches)


def test_a_mosaic_takes_four_tiles_of_the_stream(small):
    made = loader(small, small.tiles(8), augment=AugmentConfig(mosaic=1.0), images_seen=64)
    batch = made.batch(0)
    assert len(batch.samples) == 4
    assert len(batch.tiles) == 16
    assert sorted(batch.tiles[:8]) == list(range(8))


def test_an_unreadable_tile_is_set_aside_by_name_and_the_epoch_goes_on(small):
    source = small.tiles(6, unreadable=[2])
    made = loader(small, source, max_unreadable=0.2)
    tiles = [index for step in range(3) for index in made.batch(step).tiles]
    assert len(tiles) == 12
    assert 2 not in tiles
    assert tiles.count(3) == 4
    assert list(made.unreadable) == [2]
    assert "tile-2 is cut off" in made.unreadable[2]
    assert source.asked.count(2) == 1


def test_what_stands_in_for_it_does_not_depend_on_when_it_was_found(small):
    late, knowing = (loader(small, small.tiles(6, unreadable=[2, 3]), max_unreadable=0.5) for _ in range(2))
    knowing.unreadable.update({2: "known", 3: "known"})
    assert [late.batch(step).tiles for step in range(4)] == [knowing.batch(step).tiles for step in range(4)]


@pytest.mark.parametrize(("unreadable", "share"), [([0, 1, 2], 0.4), ([0, 1, 2, 3, 4, 5], 1.0)])
def test_too_many_unreadable_tiles_end_the_run_by_name(small, unreadable, share):
    made = loader(small, small.tiles(6, unreadable=unreadable), max_unreadable=share)
    with pytest.raises(BadInput, match=rf"{len(unreadable)} of 6 tiles cannot be read: tile-0, tile-1, tile-2.*max_unreadable"):
        [made.batch(step) for step in range(6)]


@pytest.mark.guarantee("G29")
@pytest.mark.parametrize("box", [[1.0, 1.0, np.nan, 5.0], [np.inf, 1.0, 3.0, 5.0], [4.0, 1.0, 4.0, 5.0], [4.0, 6.0, 8.0, 5.0]])
def test_a_box_that_is_none_is_refused_naming_its_tile(small, box):
    source = small.tiles(1)
    source._samples[0] = source.sample(0)._replace(boxes=torch.tensor([box]), labels=torch.tensor([0]))
    with pytest.raises(BadInput, match="tile tile-0 has the box"):
        loader(small, source).batch(0)


@pytest.mark.guarantee("G29")
@pytest.mark.parametrize("box", [[-9.0, 1.0, 0.0, 5.0], [1.0, 16.0, 5.0, 20.0]])
def test_a_box_outside_its_tile_is_refused_naming_the_tile(small, box):
    source = small.tiles(1)
    source._samples[0] = source.sample(0)._replace(boxes=torch.tensor([box]), labels=torch.tensor([0]))
    with pytest.raises(BadInput, match=r"tile tile-0 has the box .* reaches into the tile of 16 px"):
        loader(small, source).batch(0)


@pytest.mark.guarantee("G29")
@pytest.mark.parametrize("label", [-1, 2])
def test_a_class_out_of_range_is_refused_naming_the_tile(small, label):
    source, config = small.tiles(1), small.schedule()
    source._samples[0] = source.sample(0)._replace(boxes=torch.tensor([[1.0, 1.0, 5.0, 5.0]]), labels=torch.tensor([label]))
    with pytest.raises(BadInput, match=rf"tile tile-0 has the box .* of class {label}\. expected a class of 0 to 1"):
        BatchLoader(source, config, plan_steps(config), {}, classes=2).batch(0)
    if label > 0:
        assert BatchLoader(source, config, plan_steps(config), {}).batch(0).tiles


@pytest.mark.guarantee("G29")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_pixels_that_are_no_numbers_are_refused_naming_their_tile(small, value):
    source = small.tiles(1)
    source._samples[0] = Sample(torch.full((3, 16, 16), value), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    with pytest.raises(BadInput, match="pixels of tile tile-0"):
        loader(small, source).batch(0)


def test_a_sample_knows_its_tile_and_a_mosaic_none(small):
    source = small.tiles(6, unreadable=(2,))
    batch = loader(small, source).batch(0)
    assert [sample.tile for sample in batch.samples] == batch.tiles
    joined = loader(small, small.tiles(6), images_seen=160, augment=AugmentConfig(mosaic=1.0, mosaic_until=1.0)).batch(0)
    assert {sample.tile for sample in joined.samples} == {-1}
