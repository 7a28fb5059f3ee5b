"""Targets that no loss can be computed of are refused, naming the tile."""

import math

import pytest
import torch

from engine.errors import BadInput
from engine.models.targets import Targets, check_targets

GOOD = [0.5, 0.5, 0.2, 0.2]


def targets(box, label=1):
    return Targets(torch.tensor([0, label]), torch.tensor([GOOD, box]))


@pytest.mark.parametrize(
    ("box", "label", "message"),
    [
        ([math.nan, 0.5, 0.1, 0.1], 1, "box 1 is not finite"),
        ([0.5, 0.5, math.inf, 0.1], 1, "box 1 is not finite"),
        ([0.5, 0.5, 0.0, 0.1], 1, "box 1 has no area"),
        ([0.5, 0.5, 0.1, -0.1], 1, "box 1 has no area"),
        ([1.5, 0.5, 0.1, 0.1], 1, "box 1 lies outside the tile"),
        ([0.5, -0.2, 0.1, 0.1], 1, "box 1 lies outside the tile"),
        (GOOD, 2, "box 1 is of a class outside 0 … 1: class 2"),
        (GOOD, -1, "box 1 is of a class outside 0 … 1: class -1"),
    ],
)
def test_a_broken_target_is_named(box, label, message):
    broken = [targets(GOOD), targets(box, label)]
    with pytest.raises(BadInput, match=f"image 1 of the batch: {message}"):
        check_targets(broken, 2)
    with pytest.raises(BadInput, match=f"tile-b: {message}"):
        check_targets(broken, 2, ["tile-a", "tile-b"])


@pytest.mark.parametrize("box", [GOOD, [0.0, 1.0, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]])
def test_sound_targets_pass(box):
    check_targets([targets(box), Targets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))], 2)
