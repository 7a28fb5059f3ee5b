"""Small heads, and how they move boxes."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

__all__ = ["MLP", "move_boxes", "prior_bias"]

_LARGEST_LOG_RATIO = math.log(16.0)


class MLP(nn.Sequential):
    """``layers`` linear layers with ReLU between them, ``width`` channels inside."""

    def __init__(self, inputs: int, width: int, outputs: int, layers: int) -> None:
        sizes = [inputs, *[width] * (layers - 1), outputs]
        parts: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            parts += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        super().__init__(*parts[:-1])

    def start_at_zero(self) -> MLP:
        """Make the output zero until it is trained: what builds on it starts unmoved."""
        last = self[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return self


def move_boxes(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Move and stretch boxes by their own size (R-CNN, appendix C), which a small object needs as much as a large one.

    Args:
        boxes: (…, 4) as (cx, cy, w, h), normalised, w and h above 0.
        deltas: (…, 4): shifts in units of the width and height, and logarithms of the size ratios (limited to 1/16 … 16).

    Returns:
        (…, 4) in the form of ``boxes``.
    """
    centres = boxes[..., :2] + deltas[..., :2] * boxes[..., 2:]
    sizes = boxes[..., 2:] * deltas[..., 2:].clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO).exp()
    return torch.cat([centres, sizes.clamp(max=2.0)], -1)


def prior_bias(probability: float = 0.01) -> float:
    """The logit of ``probability``: a class bias so that an untrained head says "nothing here" (RetinaNet, section 3.3)."""
    return -math.log((1 - probability) / probability)
