"""What training adds to queries: what is noised, how much, and who may see it."""

import pytest
import torch

from engine.models.architecture import DetectorConfig
from engine.models.denoising import DenoisingQueries, denoising_mask, known_boxes, noise_objects
from engine.models.queries import Queries
from engine.models.targets import Targets

TARGETS = [
    Targets(torch.tensor([0, 1]), torch.tensor([[0.3, 0.4, 0.2, 0.1], [0.6, 0.6, 0.2, 0.2]])),
    Targets(torch.tensor([2]), torch.tensor([[0.5, 0.5, 0.4, 0.2]])),
    Targets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4)),
]


def noised(groups=50, seed=0, **changes):
    config = DetectorConfig(denoising_groups=groups, **changes)
    return noise_objects(TARGETS, config, 3, torch.Generator().manual_seed(seed))


def moves(found, image):
    """How far the corners of every slot of an image moved, in half sides of its object, and which slots are positives."""
    real = found.objects[image] >= 0
    boxes, known = found.boxes[image, real], TARGETS[image].boxes[found.objects[image, real]]
    corners = [torch.cat([each[:, :2] - each[:, 2:] / 2, each[:, :2] + each[:, 2:] / 2], 1) for each in (boxes, known)]
    return (corners[0] - corners[1]).abs() / (known[:, 2:] / 2).repeat(1, 2), found.positive[real]


@pytest.mark.parametrize("noise", [0.2, 0.4])
def test_positives_move_less_than_negatives(noise):
    for image in (0, 1):
        moved, positive = moves(noised(denoising_box_noise=noise), image)
        assert moved[positive].max() <= noise + 1e-5
        assert moved[~positive].min() >= noise - 1e-5
        assert moved[~positive].max() <= 2 * noise + 1e-5
        assert moved[positive].mean().item() == pytest.approx(noise / 2, rel=0.2)


def test_every_group_holds_every_object_twice():
    found = noised(groups=3)
    assert found.boxes.shape == (3, 3 * 2 * 2, 4)
    assert found.objects.tolist() == [[0, 1] * 6, [0, -1] * 6, [-1, -1] * 6]
    assert found.positive.tolist() == [True, True, False, False] * 3


def test_classes_are_drawn_anew_as_often_as_said():
    true = torch.tensor([0, 1]).repeat(1000)
    found = noised(groups=500, denoising_label_noise=0.6).labels[0]
    assert (found != true).float().mean().item() == pytest.approx(0.3 * 2 / 3, abs=0.03)
    assert torch.equal(noised(groups=500, denoising_label_noise=0.0).labels[0], true)


def test_boxes_stay_boxes_whatever_the_noise():
    for seed in range(5):
        boxes = noised(denoising_box_noise=1.0, seed=seed).boxes
        assert boxes[..., 2:].min() > 0
        assert boxes.min() >= 0
        assert boxes.max() <= 1


def test_the_generator_decides():
    assert torch.equal(noised(seed=1).boxes, noised(seed=1).boxes)
    assert not torch.equal(noised(seed=1).boxes, noised(seed=2).boxes)


def test_nothing_is_noised_where_it_is_off_or_nothing_is_there():
    generator = torch.Generator().manual_seed(0)
    assert noise_objects(TARGETS, DetectorConfig(), 3, generator) is None
    assert noise_objects(TARGETS[2:], DetectorConfig(denoising_groups=2), 3, generator) is None


def test_queries_see_no_group_and_groups_not_one_another():
    mask = denoising_mask(4, 2, 2, torch.device("cpu"))
    assert (~mask).int().tolist() == [
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


def test_slots_without_an_object_carry_no_class():
    found = noised(groups=1)
    joined, mask = DenoisingQueries(3, 16).join(
        found, Queries(torch.zeros(3, 5, 16), torch.full((3, 5, 4), 0.5), torch.zeros(3, 5, 3), None)
    )
    assert joined.content.shape == (3, 4 + 5, 16)
    assert mask.shape == (9, 9)
    assert bool((joined.content[2, :4] == 0).all())
    assert bool((joined.content[0, :4] != 0).any(-1).all())


def known(targets=TARGETS, **changes):
    return known_boxes(targets, DetectorConfig(**changes), torch.Generator().manual_seed(0))


def rows_of(boxes):
    return {tuple(box.tolist()) for box in boxes}


def test_every_image_shows_its_objects_first_and_then_moved_copies_of_them():
    boxes = known(region_truth=40, region_noise=0.3)
    assert boxes.shape == (3, 40, 4)
    assert rows_of(boxes[0, :2]) == rows_of(TARGETS[0].boxes)
    assert torch.equal(boxes[1, :1], TARGETS[1].boxes)
    moved = boxes[1, 1:] - TARGETS[1].boxes
    assert bool((moved != 0).any(-1).all())
    away = moved[:, :2].abs() / (TARGETS[1].boxes[:, 2:] / 2)
    assert 0.1 < away.max() <= 0.3 + 1e-5
    assert torch.equal(boxes[2], torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(40, 4))


def test_a_crowded_image_shows_some_of_its_objects_others_each_time():
    crowd = Targets(torch.zeros(60, dtype=torch.long), torch.cat([torch.linspace(0.1, 0.9, 60)[:, None], torch.full((60, 3), 0.1)], 1))
    boxes = known([crowd, TARGETS[1]], region_truth=5)
    assert boxes.shape == (2, 5, 4)
    assert len(rows_of(boxes[0])) == 5
    assert rows_of(boxes[0]) < rows_of(crowd.boxes)
    others = known_boxes([crowd], DetectorConfig(region_truth=5), torch.Generator().manual_seed(1))
    assert rows_of(others[0]) != rows_of(boxes[0])


def test_no_known_boxes_where_none_are_wanted_or_there():
    assert known(region_truth=0) is None
    assert known(TARGETS[2:]) is None
