"""Changes of light and colour as one affine map of RGB: quick enough for every training image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ColourChange", "change_colours"]

LUMA = torch.tensor([0.299, 0.587, 0.114])
"""Weights of R, G, B in the luminance (ITU-R BT.601)."""
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""RGB → luminance and two axes of chrominance, about which the hue turns, red to magenta (NTSC, 1953)."""
FROM_YIQ = torch.inverse(TO_YIQ)


class ColourChange(NamedTuple):
    """What happens to the colours, in this order; the numbers here change nothing."""

    brightness: float = 1.0
    """Factor of all values."""
    contrast: float = 1.0
    """Factor of the distance from the image's mean luminance."""
    saturation: float = 1.0
    """Factor of the distance from the pixel's own luminance."""
    hue: float = 0.0
    """Turn of the chrominance, as a share of the full circle."""


def change_colours(image: Tensor, change: ColourChange) -> Tensor:
    """The image (3, H, W) uint8 with other colours, clamped once at the end.

    The first three changes are torchvision's ``adjust_brightness``, ``adjust_contrast`` and ``adjust_saturation``, without rounding
    and clamping between them; the hue turns in YIQ, which keeps the luminance.
    """
    pixels = image.reshape(3, -1).float()
    mean = torch.dot(LUMA, pixels.mean(1))
    matrix = _matrix(change)
    grey = change.brightness * (1 - change.contrast) * mean
    changed = torch.addmm(grey.expand(3, 1), matrix, pixels).clamp_(0, 255).add_(0.5)
    return changed.to(torch.uint8).view(image.shape)


def _matrix(change: ColourChange) -> Tensor:
    """The linear part (3, 3); it maps grey to grey."""
    angle = -2 * math.pi * change.hue
    turn = torch.tensor([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    saturate = change.saturation * torch.eye(3) + (1 - change.saturation) * LUMA.expand(3, 3)
    matrix: Tensor = change.brightness * change.contrast * (FROM_YIQ @ turn @ TO_YIQ @ saturate)
    return matrix
