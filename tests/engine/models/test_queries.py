"""Queries from proposals, slots with patches, and who may see whom."""

import pytest
import torch

from engine.models.encoder import Proposals
from engine.models.queries import PatchQueries, block_mask, select_proposals

CPU = torch.device("cpu")


def proposals(*rows):
    """From (logits, box) pairs of one image; a proposal's features are its index."""
    logits = torch.tensor([[logit for logit, _ in rows]])
    boxes = torch.tensor([[box for _, box in rows]])
    return Proposals(logits, boxes, torch.arange(len(rows), dtype=torch.float32).view(1, -1, 1))


def chosen(queries):
    return queries.content[0, :, 0].int().tolist()


LEFT, NEARLY_LEFT, RIGHT = [0.2, 0.5, 0.2, 0.2], [0.21, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2]
HAND_MADE = proposals(([3.0, -5.0], LEFT), ([2.0, -5.0], NEARLY_LEFT), ([-5.0, 1.0], NEARLY_LEFT), ([-2.0, -3.0], RIGHT))


@pytest.mark.parametrize(
    ("count", "candidates", "order"),
    [
        (4, 4, [0, 2, 3, 1]),
        (3, 4, [0, 2, 3]),
        (9, 9, [0, 2, 3, 1]),
        (3, 3, [0, 2, 1]),
    ],
)
def test_duplicates_of_the_same_class_come_last(count, candidates, order):
    queries = select_proposals(HAND_MADE, count, candidates=candidates, iou_threshold=0.7)
    assert chosen(queries) == order
    assert torch.equal(queries.logits[0], HAND_MADE.logits[0, order])
    assert torch.equal(queries.boxes[0], HAND_MADE.boxes[0, order])


def test_a_higher_threshold_keeps_near_boxes():
    assert chosen(select_proposals(HAND_MADE, 4, candidates=4, iou_threshold=0.95)) == [0, 1, 2, 3]


def test_boxes_that_only_touch_are_no_duplicates():
    """An IoU of 0.5 between boxes of unequal size, by hand: a box and its left half."""
    pair = proposals(([2.0], [0.4, 0.5, 0.4, 0.2]), ([1.0], [0.3, 0.5, 0.2, 0.2]), ([0.0], [0.9, 0.9, 0.1, 0.1]))
    assert chosen(select_proposals(pair, 3, candidates=3, iou_threshold=0.51)) == [0, 1, 2]
    assert chosen(select_proposals(pair, 3, candidates=3, iou_threshold=0.49)) == [0, 2, 1]


def test_gradient_reaches_the_features_alone():
    features = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    source = Proposals(HAND_MADE.logits.clone().requires_grad_(), HAND_MADE.boxes.clone().requires_grad_(), features)
    queries = select_proposals(source, 2, candidates=4, iou_threshold=0.7)
    assert not queries.boxes.requires_grad
    assert not queries.logits.requires_grad
    queries.content.sum().backward()
    assert features.grad[0].sum(-1).tolist() == [3, 0, 3, 0]


@pytest.mark.parametrize("patches", [patches for patches in range(1, 101) if 100 % patches == 0])
def test_a_slot_sees_its_own_group_and_all_of_it(patches):
    """For every divisor: the published mask is right for M = 10 alone."""
    size = 100 // patches
    allowed = ~block_mask(100, patches, CPU)
    expected = torch.block_diag(*[torch.ones(size, size)] * patches).bool()
    assert torch.equal(allowed, expected)


@pytest.mark.parametrize(("slots", "patches"), [(100, 3), (20, 40)])
def test_groups_that_do_not_divide_the_slots_are_refused(slots, patches):
    with pytest.raises(ValueError, match="do not divide"):
        block_mask(slots, patches, CPU)


@pytest.mark.parametrize("patches", [1, 2, 4, 8])
@torch.no_grad()
def test_patches_go_to_the_slots_of_the_mask(patches):
    slots = PatchQueries(8, 16, 5)
    features = torch.rand(2, patches, 5, generator=torch.Generator().manual_seed(0))
    carried = slots(features).extra_position
    same = torch.cdist(carried[0], carried[0]) < 1e-6
    assert torch.equal(same, ~block_mask(8, patches, CPU))


@torch.no_grad()
def test_a_patch_changes_content_and_position_but_not_the_reference():
    slots = PatchQueries(8, 16, 5)
    one, other = slots(torch.zeros(1, 2, 5)), slots(torch.eye(5)[None, :2])
    assert torch.equal(one.boxes, other.boxes)
    assert not torch.allclose(one.content, other.content)
    assert torch.allclose(other.content - slots.content.weight, other.extra_position, atol=1e-6)


@torch.no_grad()
def test_a_dropped_slot_is_as_without_a_patch():
    slots = PatchQueries(4, 16, 5)
    keep = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    queries = slots(torch.rand(1, 2, 5, generator=torch.Generator().manual_seed(0)), keep)
    assert torch.equal(queries.content[0, 1], slots.content.weight[1])
    assert queries.extra_position[0, 1].abs().sum() == 0
    assert queries.extra_position[0, 0].abs().sum() > 0
