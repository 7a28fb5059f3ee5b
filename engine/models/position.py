"""Sine embeddings of positions and boxes (DETR, appendix A.4; DAB-DETR, section 4.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["interleaved_sine_embedding", "map_position", "sine_embedding", "token_centres"]


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


def interleaved_sine_embedding(coordinates: Tensor, dimension: int, temperature: float = 10000.0) -> Tensor:
    """Embed normalised coordinates (…, K) as (…, K · dimension): sine and cosine of each frequency side by side (DETR, appendix A.4)."""
    frequencies = temperature ** (-torch.arange(0, dimension, 2, device=coordinates.device, dtype=torch.float32) / dimension)
    angles = coordinates.float()[..., None] * (2 * math.pi) * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-3)


def map_position(shapes: list[tuple[int, int]], dimension: int, device: torch.device, *, centred: bool) -> Tensor:
    """Position embeddings (T, dimension) of the papers, y before x, level after level.

    Args:
        shapes: (height, width) of each level.
        dimension: D, a multiple of 4.
        device: where to make them.
        centred: tokens lie at (i + ½) / n, as in Deformable DETR's code; else at (i + 1) / n, as in DETR's.
    """
    centres = token_centres(shapes, device)
    if not centred:
        centres = centres + torch.cat(
            [centres.new_tensor([[0.5 / width, 0.5 / height]]).expand(height * width, -1) for height, width in shapes]
        )
    return interleaved_sine_embedding(centres.flip(-1), dimension // 2)
