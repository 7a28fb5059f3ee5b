"""Which parts of tiles look like a box: frozen backbone features of a grid on each tile, and of boxes cut out.

Two descriptions supplement one another. A tile's own feature map (computed once a tile) says where something alike may be; the box cut out
and resized to one size, as query patches are described in UP-DETR (section 3.1), says how alike it is whatever its size. Both use the
backbone alone, so they serve as soon as there is a backbone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms, roi_align

from engine.models.detector import Detector

__all__ = [
    "Windows",
    "best_windows",
    "cut_patches",
    "describe_grid",
    "describe_patches",
    "grid_stride",
    "like_windows",
    "mean_on_grid",
    "similarity_maps",
    "size_difference",
]

Half = NDArray[np.float16]
SURROUNDINGS = 0.5
"""How much of the likeness around a window counts against it: an object ends somewhere."""
SCALES = (0.7, 1.0, 1.4)
"""Sides of the windows, in sides of the query; both orientations."""
WINDOW_IOU = 0.5
"""Of two windows of a tile that overlap more, the less alike is dropped."""
WINDOWS_A_TILE = 64
PATCHES_AT_ONCE = 64


class Windows(NamedTuple):
    """W windows on tiles, the most alike first."""

    tile_index: Tensor
    """(W,) row of the tile."""
    boxes: Tensor
    """(W, 4) as (x1, y1, x2, y2) in tile pixels."""
    likeness: Tensor
    """(W,) likeness inside minus a share of the likeness around, in [-2, 2]."""


def _grid_level(model: Detector) -> int:
    """The backbone level of grids: the last but one (stride 16), the coarsest in which small objects still show."""
    return max(len(model.config.feature_levels) - 2, 0)


def grid_stride(model: Detector) -> int:
    """Pixels between the cells of a grid."""
    return int(model.strides[_grid_level(model)])


@torch.inference_mode()
def describe_grid(model: Detector, images: Tensor) -> Half:
    """Unit vectors (B, C, H, W) of the cells of images (B, 3, S, S), RGB in [0, 1]."""
    cells = functional.normalize(model.features(images)[_grid_level(model)].float(), dim=1)
    described: Half = cells.contiguous().cpu().numpy().astype(np.float16)
    return described


def cut_patches(image: Tensor, boxes: Tensor, *, size: int) -> Tensor:
    """Patches (N, 3, size, size) in [0, 1]: boxes (N, 4) of one image (3, S, S) uint8, cut out and resized."""
    pixels = image.float().div(255)[None]
    patches: Tensor = roi_align(pixels, [boxes.to(pixels)], size, aligned=True)
    return patches


@torch.inference_mode()
def describe_patches(model: Detector, patches: Tensor) -> Tensor:
    """Unit vectors (N, d) of patches (N, 3, s, s), RGB in [0, 1].

    The last two backbone levels count alike: the product of two descriptions is the mean of the cosines in both.
    """
    device = next(model.parameters()).device
    described = []
    for some in torch.split(patches, PATCHES_AT_ONCE):
        levels = model.features(some.to(device).contiguous(memory_format=torch.channels_last))[-2:]
        vectors = [functional.normalize(level.float().mean((2, 3)), dim=1) for level in levels]
        described.append(torch.cat(vectors, 1).cpu() / math.sqrt(len(vectors)))
    return torch.cat(described)


def mean_on_grid(grids: Tensor, boxes: Tensor, centre: Tensor, *, stride: int) -> Tensor:
    """Unit vectors (N, C): what the grids show on average in boxes (N, 5) of (row of the grid, x1, y1, x2, y2), less the archive's mean.

    Args:
        grids: (B, C, H, W).
        boxes: in tile pixels.
        centre: (C,) mean of all cells of the archive, which says nothing about a box.
        stride: pixels between cells.
    """
    means = roi_align(grids.float(), boxes.float(), 1, 1 / stride, sampling_ratio=4, aligned=True)[:, :, 0, 0]
    return functional.normalize(functional.normalize(means, dim=1) - centre, dim=1)


def similarity_maps(grids: Tensor, query: Tensor, centre: Tensor) -> Tensor:
    """Cosine (B, H, W) between ``query`` (C,) and every cell of unit vectors (B, C, H, W), both less ``centre`` (C,).

    The cells are not copied: |g − m|² = 1 − 2 g·m + |m|².
    """
    batch, channels, height, width = grids.shape
    products = torch.stack([query, centre]) @ grids.float().view(batch, channels, height * width)
    length = (1 - 2 * products[:, 1] + centre @ centre).clamp(min=1e-6).sqrt()
    return ((products[:, 0] - query @ centre) / length).view(batch, height, width)


def size_difference(boxes: Tensor, query: Tensor) -> Tensor:
    """How much larger or smaller boxes (N, 4) are than ``query`` (4,): |log| (N,) of the ratio of the roots of their areas."""
    ratio = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (query[2:] - query[:2]).prod()
    return 0.5 * ratio.log().abs()


def _window_sums(maps: Tensor, height: int, width: int) -> Tensor:
    """Sums (B, H − height + 1, W − width + 1) over all windows of maps (B, H, W), by integral images."""
    total = functional.pad(maps, (1, 0, 1, 0)).double().cumsum(1).cumsum(2)
    sums = total[:, height:, width:] - total[:, :-height, width:] - total[:, height:, :-width] + total[:, :-height, :-width]
    return sums.float()


def _standing_out(maps: Tensor, height: int, width: int) -> Tensor:
    """Mean inside each window of maps (B, H, W) less a share of the mean in a frame half as wide around it, as sums are placed."""
    inside = _window_sums(maps, height, width)
    top, left = max(1, height // 2), max(1, width // 2)
    padded = functional.pad(maps[:, None], (left, left, top, top), mode="replicate")[:, 0]
    around = _window_sums(padded, height + 2 * top, width + 2 * left) - inside
    area, frame = height * width, (height + 2 * top) * (width + 2 * left) - height * width
    return inside / area - SURROUNDINGS * around / frame


def like_windows(maps: Tensor, extents: Tensor, size: tuple[float, float], *, stride: int, count: int) -> Windows:
    """The windows about as large as the query, at half the grid's stride, that are most alike and stand out from their surroundings.

    Args:
        maps: (B, H, W) from :func:`similarity_maps`.
        extents: (B, 2) width and height of each tile in pixels; windows lie inside, but for a quarter of a cell.
        size: width and height of the query in pixels.
        stride: of the maps.
        count: windows in all, at most.
    """
    fine = functional.interpolate(maps[:, None].float(), scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
    step, batch = stride / 2, len(maps)
    boxes, likeness = [], []
    for width, height in sorted({(scale * w, scale * h) for scale in SCALES for w, h in (size, size[::-1])}):
        columns, rows = (min(max(1, round(side / step)), limit) for side, limit in ((width, fine.shape[2]), (height, fine.shape[1])))
        values = _standing_out(fine, rows, columns)
        x = (torch.arange(values.shape[2]) + columns / 2) * step
        y = (torch.arange(values.shape[1]) + rows / 2) * step
        cy, cx = (axis.reshape(-1) for axis in torch.meshgrid(y, x, indexing="ij"))
        placed = torch.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], 1)
        slack = stride / 4
        inside = (placed[None, :, 2:] <= extents[:, None] + slack).all(2) & (placed[:, :2] >= -slack).all(1)
        best = values.view(batch, -1).masked_fill(~inside, -torch.inf).topk(min(WINDOWS_A_TILE, len(placed)), 1)
        boxes.append(placed[best.indices])
        likeness.append(best.values)
    values = torch.cat(likeness, 1)
    tile_index = torch.arange(batch)[:, None].expand_as(values)
    return best_windows(Windows(tile_index.reshape(-1), torch.cat(boxes, 1).view(-1, 4), values.view(-1)), count)


def best_windows(windows: Windows, count: int) -> Windows:
    """The ``count`` most alike, without those that overlap a better one of their tile by more than :data:`WINDOW_IOU`."""
    solid = torch.isfinite(windows.likeness).nonzero()[:, 0]
    solid = solid[windows.likeness[solid].argsort(descending=True, stable=True)[: 16 * count]]
    kept = solid[batched_nms(windows.boxes[solid], windows.likeness[solid], windows.tile_index[solid], WINDOW_IOU)[:count]]
    return Windows(*(part[kept] for part in windows))
