"""Augmentation: boxes stay on their objects, and the generator decides everything."""

import pytest
import torch

from engine.errors import UsageError
from engine.training.augment import AugmentConfig, augment, mosaic
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
    sample = augment(painted(seed), AugmentConfig(scale=(1.0, 1.0), brightness=0.0, contrast=0.0), generator(seed))
    assert len(sample.boxes) == 3
    for box, label in zip(sample.boxes, sample.labels.tolist(), strict=True):
        assert torch.equal(box, extent(sample.image, label))


def test_all_eight_orientations_come():
    config = AugmentConfig(scale=(1.0, 1.0), brightness=0.0, contrast=0.0)
    seen = {augment(painted(1), config, generator(seed)).image.numpy().tobytes() for seed in range(100)}
    assert len(seen) == 8


def equal(one, other):
    return one.tile == other.tile and all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_switched_off_it_changes_nothing(squares):
    sample = painted(3)._replace(tile=5)
    assert equal(sample, augment(sample, squares.PLAIN, generator(0)))


def test_the_generator_decides_everything_and_the_sample_is_left_alone():
    sample = painted(0)
    copy = Sample(*(part.clone() for part in sample[:3]))
    one, same, other = (augment(sample, AugmentConfig(), generator(seed)) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not torch.equal(one.image, other.image)
    assert equal(sample, copy)


def test_a_box_that_is_mostly_cut_off_goes_and_one_that_is_partly_cut_off_is_clipped():
    edge = torch.tensor([[0.0, 40.0, 20.0, 60.0]])
    config = AugmentConfig(flip=False, quarter_turn=False, scale=(1.5, 1.5), crop_tries=1, minimum_visible=0.4)
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


def cut_boxes(tries):
    """How many of the boxes are cut off in 60 crops of a picture of three boxes."""
    config = AugmentConfig(flip=False, quarter_turn=False, scale=(1.4, 1.4), minimum_visible=0.0, crop_tries=tries)
    cut = 0
    for seed in range(60):
        before = painted(seed)
        after = augment(before, config, generator(seed))
        scale = SIZE / round(SIZE / 1.4)
        for box, label in zip(after.boxes, after.labels, strict=True):
            sides = (before.boxes[label, 2:] - before.boxes[label, :2]) * scale
            cut += int(((box[2:] - box[:2]) < sides - 0.01).any())
    return cut


def test_a_crop_moves_where_it_would_cut_boxes():
    first_place, best_of_many = cut_boxes(1), cut_boxes(32)
    assert first_place > 30
    assert best_of_many < first_place / 4


@pytest.mark.parametrize("seed", range(20))
def test_a_mosaic_holds_the_boxes_of_four_where_they_are_painted(seed):
    """Every part has one colour of its own, so that its box is where the colour is."""
    parts = []
    for number in range(4):
        image = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
        channels = [0, 1, 2] if number == 3 else [number]
        image[channels, 40:60, 30:44] = 255
        parts.append(Sample(image, torch.tensor([[30.0, 40.0, 44.0, 60.0]]), torch.tensor([number])))
    config = AugmentConfig(brightness=0.0, contrast=0.0, mosaic_scale=(0.6, 1.2))
    joined = mosaic(parts, config, generator(seed))
    assert joined.image.shape == (3, SIZE, SIZE)
    assert len(joined.boxes) >= 2
    assert set(joined.labels.tolist()) <= {0, 1, 2, 3}
    for box, label in zip(joined.boxes, joined.labels.tolist(), strict=True):
        bright = joined.image > 100
        shown = bright.all(0) if label == 3 else bright[label] & (bright.sum(0) == 1)
        rows, columns = shown.nonzero().T
        found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (box - found).abs().max() <= 1.6


def test_the_generator_decides_a_mosaic():
    parts = [painted(seed) for seed in range(4)]
    one, same, other = (mosaic(parts, AugmentConfig(), generator(seed)) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not torch.equal(one.image, other.image)


@pytest.mark.parametrize("contiguous", [False, True])
def test_the_layout_of_the_pixels_in_memory_makes_no_difference(contiguous):
    sample = painted(2)
    pixels = sample.image.permute(1, 2, 0).contiguous().permute(2, 0, 1) if not contiguous else sample.image
    config = AugmentConfig(scale=(1.3, 1.3))
    assert torch.equal(augment(sample._replace(image=pixels), config, generator(4)).image, augment(sample, config, generator(4)).image)


@pytest.mark.parametrize("name", ["scale", "mosaic_scale"])
@pytest.mark.parametrize("scale", [(1.4, 0.7), (0.0, 1.0), (-1.0, 1.0)])
def test_a_zoom_that_is_no_range_is_refused(name, scale):
    with pytest.raises(UsageError, match=f"{name} must be .* 0 < low ≤ high"):
        AugmentConfig.from_mapping({name: scale})


def test_how_much_absence_counts_stays_with_the_image(squares):
    known = squares.samples(4).sample(0)
    unsure = known._replace(absence=0.25)
    assert augment(unsure, AugmentConfig(), torch.Generator().manual_seed(0)).absence == 0.25
    assert mosaic([known, known, unsure, known], AugmentConfig(), torch.Generator().manual_seed(0)).absence == 0.25
    assert unsure.to(torch.device("cpu")).absence == 0.25
