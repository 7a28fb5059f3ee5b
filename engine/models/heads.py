"""Small heads, and how they move boxes."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

__all__ = ["MLP", "box_moves", "inverse_sigmoid", "move_boxes", "prior_bias", "shift_boxes"]

_LARGEST_LOG_RATIO = math.log(16.0)


class MLP(nn.Sequential):
    """``layers`` linear layers with ReLU, and dropout where asked for, between them; ``width`` channels inside."""

    def __init__(self, inputs: int, width: int, outputs: int, layers: int, *, dropout: float = 0.0) -> None:
        sizes = [inputs, *[width] * (layers - 1), outputs]
        parts: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            activation = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(dropout)) if dropout else nn.ReLU(inplace=True)
            parts += [nn.Linear(fan_in, fan_out), activation]
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


def box_moves(boxes: Tensor, wanted: Tensor) -> Tensor:
    """The deltas (…, 4) by which :func:`move_boxes` takes ``boxes`` to ``wanted``, both (…, 4) as (cx, cy, w, h) with sides above 0."""
    return torch.cat([(wanted[..., :2] - boxes[..., :2]) / boxes[..., 2:], (wanted[..., 2:] / boxes[..., 2:]).log()], -1)


def inverse_sigmoid(values: Tensor, epsilon: float = 1e-5) -> Tensor:
    """The logit of ``values`` in [0, 1], which are kept ``epsilon`` away from both ends."""
    values = values.clamp(0, 1)
    return (values.clamp(min=epsilon) / (1 - values).clamp(min=epsilon)).log()


def shift_boxes(references: Tensor, deltas: Tensor) -> Tensor:
    """Move boxes by adding to their inverse sigmoid (Deformable DETR, appendix A.4).

    Args:
        references: (…, 4) as (cx, cy, w, h) or points (…, 2) as (cx, cy), normalised.
        deltas: (…, 4); for points the last two are the logits of the size.

    Returns:
        (…, 4) in (0, 1).
    """
    logits = inverse_sigmoid(references)
    if references.shape[-1] == 2:
        return torch.cat([deltas[..., :2] + logits, deltas[..., 2:]], -1).sigmoid()
    return (deltas + logits).sigmoid()


def prior_bias(probability: float = 0.01) -> float:
    """The logit of ``probability``: a class bias so that an untrained head says "nothing here" (RetinaNet, section 3.3)."""
    return -math.log((1 - probability) / probability)
