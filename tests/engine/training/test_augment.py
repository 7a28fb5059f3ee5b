"""Augmentation: boxes stay on their objects, and the generator decides everything."""

import pytest
import torch

from engine.errors import UsageError
from engine.training.augment import AugmentConfig, augment
from engine.training.data import Sample

SIZE = 96
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def painted(seed):
    """Three boxes of three colours on black, apart from one another."""
    image = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    boxes = []
    for number, colour in enumerate(COLOURS):
        left, top, width, height = torch.randint(8, 20, (4,), generator=generator(10 * seed + number)).tolist()
        left, top = left + 30 * number, top + 25 * number
        width, height = min(width, SIZE - left), min(height, SIZE - top)
        image[:, top : top + height, left : left + width] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
        boxes.append([left, top, left + width, top + height])
    return Sample(image, torch.tensor(boxes, dtype=torch.float32), torch.arange(3))


def extent(image, channel):
    """The box (x1, y1, x2, y2) around the pixels of one colour; None where there are none."""
    rows, columns = (image[channel].int() - image.int().sum(0) + image[channel].int() > 100).nonzero().T
    if not len(rows):
        return None
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("seed", range(40))
def test_boxes_stay_on_their_objects(seed):
    sample = augment(painted(seed), AugmentConfig(scale=(0.6, 1.6)), generator(seed))
    assert sample.image.shape == (3, SIZE, SIZE)
    for box, label in zip(sample.boxes, sample.labels.tolist(), strict=True):
        assert (box - extent(sample.image, label)).abs().max() <= 1.6


@pytest.mark.parametrize("seed", range(20))
def test_flips_and_turns_alone_are_exact(seed):
    sample = augment(painted(seed), AugmentConfig(scale=(1.0, 1.0), brightness=0.0), generator(seed))
    assert len(sample.boxes) == 3
    for box, label in zip(sample.boxes, sample.labels.tolist(), strict=True):
        assert torch.equal(box, extent(sample.image, label))


def test_all_eight_orientations_come():
    config = AugmentConfig(scale=(1.0, 1.0), brightness=0.0)
    seen = {augment(painted(1), config, generator(seed)).image.numpy().tobytes() for seed in range(100)}
    assert len(seen) == 8


def test_switched_off_it_changes_nothing(squares):
    sample = painted(3)
    for before, after in zip(sample, augment(sample, squares.PLAIN, generator(0)), strict=True):
        assert torch.equal(before, after)


def test_the_generator_decides_everything_and_the_sample_is_left_alone():
    sample = painted(0)
    copy = Sample(*(part.clone() for part in sample))
    one, same, other = (augment(sample, AugmentConfig(), generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.image, other.image)
    assert all(torch.equal(a, b) for a, b in zip(sample, copy, strict=True))


def test_a_box_that_is_mostly_cut_off_goes_and_one_that_is_partly_cut_off_is_clipped():
    edge = torch.tensor([[0.0, 40.0, 20.0, 60.0]])
    config = AugmentConfig(flip=False, quarter_turn=False, scale=(1.5, 1.5), brightness=0.0, minimum_visible=0.4)
    kept, gone = 0, 0
    for seed in range(60):
        sample = augment(Sample(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), edge, torch.tensor([0])), config, generator(seed))
        kept, gone = kept + len(sample.boxes), gone + 1 - len(sample.boxes)
        for box in sample.boxes:
            assert box.min() >= 0
            assert box.max() <= SIZE
            assert (box[2:] - box[:2]).prod() >= 0.4 * 30 * 30 - 1
    assert kept > 10
    assert gone > 10


def test_an_image_without_boxes_is_no_special_case():
    empty = Sample(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert augment(empty, AugmentConfig(), generator(0)).boxes.shape == (0, 4)


@pytest.mark.parametrize("scale", [(1.4, 0.7), (0.0, 1.0), (-1.0, 1.0)])
def test_a_zoom_that_is_no_range_is_refused(scale):
    with pytest.raises(UsageError, match="0 < low ≤ high"):
        AugmentConfig.from_mapping({"scale": scale})
