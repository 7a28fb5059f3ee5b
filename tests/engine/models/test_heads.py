"""Small heads, and moves of boxes."""

import math

import pytest
import torch

from engine.models.heads import MLP, box_moves, move_boxes, prior_bias


@pytest.mark.parametrize(
    ("deltas", "moved"),
    [
        ([0.0, 0.0, 0.0, 0.0], [0.5, 0.4, 0.2, 0.1]),
        ([1.0, -2.0, 0.0, 0.0], [0.7, 0.2, 0.2, 0.1]),
        ([0.0, 0.0, math.log(2), math.log(0.5)], [0.5, 0.4, 0.4, 0.05]),
        ([0.0, 0.0, 99.0, -99.0], [0.5, 0.4, 2.0, 0.1 / 16]),
    ],
)
def test_moves_computed_by_hand(deltas, moved):
    assert move_boxes(torch.tensor([0.5, 0.4, 0.2, 0.1]), torch.tensor(deltas)).tolist() == pytest.approx(moved)


def test_the_deltas_between_two_boxes_lead_from_one_to_the_other():
    generator = torch.Generator().manual_seed(0)
    start, end = (torch.rand(50, 4, generator=generator) * 0.8 + 0.1 for _ in range(2))
    deltas = torch.cat([(end[:, :2] - start[:, :2]) / start[:, 2:], (end[:, 2:] / start[:, 2:]).log()], -1)
    assert torch.allclose(move_boxes(start, deltas), end, atol=1e-6)


def test_small_boxes_move_in_small_steps():
    delta = torch.tensor([0.5, 0.5, 0.0, 0.0])
    small, large = (torch.tensor([0.5, 0.5, side, side]) for side in (0.01, 0.5))
    assert (move_boxes(small, delta)[:2] - small[:2]).max() == pytest.approx(0.005)
    assert (move_boxes(large, delta)[:2] - large[:2]).max() == pytest.approx(0.25)


def test_a_head_that_starts_at_zero_says_zero_and_learns():
    inputs = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    head = MLP(8, 16, 4, 3).start_at_zero()
    output = head(inputs)
    assert torch.equal(output, torch.zeros(3, 4))
    output.sum().backward()
    assert head[-1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("layers", "linear"), [(1, 1), (2, 2), (3, 3)])
def test_an_mlp_ends_with_a_linear_layer(layers, linear):
    head = MLP(4, 8, 2, layers)
    assert sum(isinstance(part, torch.nn.Linear) for part in head) == linear
    assert isinstance(head[-1], torch.nn.Linear)


def test_prior_bias_is_a_logit():
    assert torch.sigmoid(torch.tensor(prior_bias(0.01))).item() == pytest.approx(0.01)


def test_box_moves_are_what_move_boxes_undoes():
    generator = torch.Generator().manual_seed(0)
    boxes, wanted = (torch.rand(50, 4, generator=generator) * 0.5 + 0.1 for _ in range(2))
    assert torch.allclose(move_boxes(boxes, box_moves(boxes, wanted)), wanted, atol=1e-6)
