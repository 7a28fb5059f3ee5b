"""Images as a grid of square patches: cut, joined, hidden and moved about (encoder SSL on aerial images, section 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Changed", "choose", "content", "from_patches", "hide", "informative", "move", "to_patches"]

_LEAST_CONTENT = 0.75
"""Share of a patch that holds imagery, at least, for it to be hidden, moved or named."""


class Changed(NamedTuple):
    """Images of which some patches were hidden or moved."""

    images: Tensor
    """(B, 3, S, S)."""
    chosen: Tensor
    """(B, P) bool, True where another patch, or none, is shown."""
    origin: Tensor
    """(B, P) int64, the place from which the patch that is shown comes."""


def to_patches(images: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) → patches (B, P, C, side, side), row by row; ``side`` divides H and W."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def from_patches(patches: Tensor, columns: int) -> Tensor:
    """Patches (B, P, C, s, s) in rows of ``columns`` → images (B, C, H, W), channels last as :func:`to_patches` reads quickest."""
    batch, count, channels, side, _ = patches.shape
    grid = patches.view(batch, count // columns, columns, channels, side, side)
    images = grid.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, count // columns * side, columns * side)
    return images.contiguous(memory_format=torch.channels_last)


def content(patches: Tensor) -> Tensor:
    """Which pixels (B, P, s, s) of an image's patches (B, P, C, s, s) hold imagery.

    Padding and no-data were black, so they are the darkest colour that an image has, whatever was done to its light since; of an image
    without them, that is its darkest pixel.
    """
    held: Tensor = (patches != patches.amin((1, 3, 4), keepdim=True)).any(2)
    return held


def informative(patches: Tensor) -> Tensor:
    """(B, P) bool: which of an image's patches (B, P, C, s, s) hold more than one colour, and hardly any padding or no-data.

    From others there is nothing to learn.
    """
    colourful = (patches != patches[..., :1, :1]).flatten(2).any(2)
    return colourful & (content(patches).flatten(2).float().mean(2) >= _LEAST_CONTENT)


def choose(candidates: Tensor, share: float, generator: torch.Generator, *, least: int = 0) -> Tensor:
    """As many of each image's candidates (B, P) as the share of them says, rounded; fewer than ``least`` count as none. (B, P) bool.

    Args:
        candidates: bool.
        share: in [0, 1].
        generator: on the CPU.
        least: for what needs several.
    """
    ranks = torch.rand(candidates.shape, generator=generator).to(candidates.device)
    order = ranks.masked_fill(~candidates, 2.0).argsort(1).argsort(1)
    count = (candidates.sum(1, keepdim=True) * share).round()
    count = torch.where(count < least, torch.zeros_like(count), count)
    return order < count


def hide(images: Tensor, chosen: Tensor, fill: Tensor, side: int) -> Changed:
    """Paint the chosen patches over.

    Args:
        images: (B, 3, S, S), before normalisation.
        chosen: (B, P) bool.
        fill: (3,) the colour; the mean of the images that the backbone knows becomes 0 when they are normalised.
        side: of a patch, in pixels.
    """
    patches = to_patches(images, side)
    painted = torch.where(chosen[..., None, None, None], fill.view(3, 1, 1), patches)
    places = torch.arange(patches.shape[1], device=images.device).expand(len(images), -1)
    return Changed(from_patches(painted, images.shape[3] // side), chosen, places)


def move(images: Tensor, chosen: Tensor, side: int, generator: torch.Generator) -> Changed:
    """Let the chosen patches of each image change places in a random cycle, so that none of them stays where it was.

    Args:
        images: (B, 3, S, S).
        chosen: (B, P) bool; an image with a single one would keep it.
        side: of a patch, in pixels.
        generator: on the CPU.
    """
    patches = to_patches(images, side)
    batch, count = chosen.shape
    origin = torch.arange(count, device=images.device).repeat(batch, 1)
    for image in range(batch):
        places = chosen[image].nonzero()[:, 0]
        places = places[torch.randperm(len(places), generator=generator).to(places.device)]
        origin[image, places] = places.roll(1)
    moved = patches.gather(1, origin[:, :, None, None, None].expand_as(patches))
    return Changed(from_patches(moved, images.shape[3] // side), chosen, origin)
