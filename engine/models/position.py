"""Sine embeddings of positions and boxes (DETR, appendix A.4; DAB-DETR, section 4.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sine_embedding", "token_centres"]


def sine_embedding(coordinates: Tensor, dimension: int, temperature: float = 20.0) -> Tensor:
    """Embed normalised coordinates (…, K) in [0, 1] as (…, K · dimension), ``dimension`` even: half sines, half cosines."""
    frequencies = temperature ** (torch.arange(dimension // 2, device=coordinates.device, dtype=torch.float32) / (dimension // 2))
    angles = coordinates.float()[..., None] * (2 * math.pi) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def token_centres(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Normalised centres (T, 2) as (x, y) of the tokens of all levels, row by row, level after level."""
    centres = []
    for height, width in shapes:
        y, x = torch.meshgrid(
            (torch.arange(height, device=device) + 0.5) / height, (torch.arange(width, device=device) + 0.5) / width, indexing="ij"
        )
        centres.append(torch.stack([x, y], -1).reshape(-1, 2))
    return torch.cat(centres)
