"""Region features: what torch's grid_sample reads at the same points, on the level that fits."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from engine.models.regions import RegionFeatures, RegionStage

SHAPES = [(20, 24), (10, 12), (5, 6)]


@pytest.fixture(scope="module")
def regions():
    torch.manual_seed(0)
    return RegionFeatures(16, side=5, hidden=8).eval()


def tokens(batch=2):
    return torch.randn(batch, sum(height * width for height, width in SHAPES), 16, generator=torch.Generator().manual_seed(0))


def boxes(batch=2, count=40):
    generator = torch.Generator().manual_seed(1)
    return torch.cat([torch.rand(batch, count, 2, generator=generator), torch.rand(batch, count, 2, generator=generator) + 0.01], -1)


def sampled(regions, memory, where):
    """(B, N, 25·D) by grid_sample, and the level of each box."""
    size = (where[..., 2] * 24 * where[..., 3] * 20).sqrt()
    level = (size > 10).long() + (size > 20).long()
    steps = (torch.arange(5) + 0.5) / 5 - 0.5
    cells = torch.stack([steps.repeat(5), steps.repeat_interleave(5)], -1)
    points = (where[:, :, None, :2] + cells * where[:, :, None, 2:]) * 2 - 1
    found = torch.zeros(*where.shape[:2], 25, 16)
    for index, (part, (height, width)) in enumerate(zip(memory.split([h * w for h, w in SHAPES], 1), SHAPES, strict=True)):
        level_map = part.transpose(1, 2).reshape(len(part), 16, height, width)
        seen = functional.grid_sample(level_map, points, align_corners=False).permute(0, 2, 3, 1)
        found += seen * (level == index)[..., None, None]
    return found.flatten(2), level


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["rows", "grid", "gather"])
def test_every_form_reads_the_grid_on_the_level_of_the_box(regions, sampler):
    memory, where = tokens(), boxes()
    expected, level = sampled(regions, memory, where)
    assert set(level.flatten().tolist()) == {0, 1, 2}
    regions.sampler = sampler
    assert torch.allclose(regions(memory, SHAPES, where), regions.norm(regions.mix(expected)), atol=1e-5)


def test_boxes_move_the_gradient_of_memory_only_where_they_are(regions):
    memory = tokens(1).requires_grad_()
    regions.sampler = "rows"
    regions(memory, SHAPES, torch.tensor([[[0.25, 0.25, 0.2, 0.2]]])).square().sum().backward()
    touched = memory.grad[0].abs().sum(-1)[: 20 * 24].view(20, 24) > 0
    assert touched[2:8, 3:9].any()
    assert not touched[10:].any()
    assert not touched[:, 12:].any()
    assert not memory.grad[0, 20 * 24 :].any()


@pytest.fixture(scope="module")
def stage():
    torch.manual_seed(0)
    return RegionStage(16, 3, side=5, channels=0, hidden=32)


@torch.no_grad()
def test_an_untrained_stage_leaves_boxes_where_they_are_and_sees_nothing(stage):
    answer = stage(tokens(), SHAPES, boxes())
    assert torch.allclose(answer.boxes, boxes(), atol=1e-6)
    assert answer.logits.shape == (2, 40, 3)
    assert bool((answer.logits.sigmoid() < 0.05).all())
    assert answer.content.shape == (2, 40, 16)


@torch.no_grad()
def test_moves_count_in_tenths_of_the_size_and_fifths_of_its_logarithm(stage):
    moved = copy.deepcopy(stage)
    moved.moves.bias.copy_(torch.tensor([1.0, -1.0, 1.0, 0.0]))
    box = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]])
    found = moved(tokens(1), SHAPES, box).boxes[0, 0]
    assert torch.allclose(found, torch.tensor([0.52, 0.46, 0.2 * math.exp(0.2), 0.4]), atol=1e-6)


@torch.no_grad()
def test_the_answer_for_a_box_does_not_depend_on_the_others(stage):
    alone = stage(tokens(), SHAPES, boxes()[:, 7:8])
    among = stage(tokens(), SHAPES, boxes())
    assert torch.allclose(alone.logits[:, 0], among.logits[:, 7], atol=1e-5)
    assert torch.allclose(alone.boxes[:, 0], among.boxes[:, 7], atol=1e-5)


@torch.no_grad()
def test_a_thin_map_keeps_the_strength_of_memory():
    torch.manual_seed(0)
    thin = RegionStage(16, 3, side=5, channels=8, hidden=32)
    memory = torch.randn(2, 630, 16)
    assert 0.9 < float(thin.thin(memory).square().mean()) < 1.1
    assert thin(thin.thin(memory), SHAPES, boxes()).logits.shape == (2, 40, 3)
    assert thin.mix[0].weight.shape == (32, 5 * 5 * 8)
