"""Boxes around what stands out of its surroundings, without labels: the objects of region pre-training (DETReg, section 3.1).

DETReg takes selective search, which needs seconds an image. Here an image is segmented by colour at several coarsenesses; every connected
segment gives a box, and boxes whose inside differs most from the frame around them, in what a backbone sees there, come first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms

from engine.config import StageConfig

__all__ = ["ProposalConfig", "propose_boxes"]

_ROUNDS = 8
"""Of k-means; segments hardly change afterwards."""
_SAMPLE = 1024
"""Cells from which the centres are found."""


_EDGE = 2
"""Cells beside no-data that are partly of it, or smoothed into it."""
_LEAST_HELD = 0.8
"""Share of a box that holds imagery, at least."""
_SIZE_MATTERS = 0.25
"""Power of a box's area by which standing out is multiplied; found on NWPU's training images, where 32 % of the objects are then among
thirty boxes at an IoU of 0.5, and 31 % with half of it."""


class ProposalConfig(StageConfig):
    """How many boxes an image gets, and of what kind."""

    boxes: int = Field(default=30, ge=1)
    """Boxes an image, at most."""
    grid: int = Field(default=128, ge=16)
    """Cells a side in which the image is segmented."""
    colours: tuple[int, ...] = (3, 5, 8, 12)
    """Numbers of colours; each gives a segmentation of its own."""
    least_cells: float = Field(default=3.0, ge=1)
    """Shortest side of a box, in cells."""
    largest: float = Field(default=0.6, gt=0, le=1)
    """Longest side of a box, as a share of that of the image without its padding."""
    least_filled: float = Field(default=0.3, ge=0, le=1)
    """Share of a box that its segment covers, at least."""
    overlap: float = Field(default=0.6, gt=0, le=1)
    """Of two boxes with a larger IoU the one that stands out less is dropped."""


def _colours(image: Tensor, grid: int) -> Tensor:
    """Brightness and two opponent colours (3, G, G) of an image (3, S, S) in [0, 1], slightly smoothed."""
    small = functional.interpolate(image[None], size=(grid, grid), mode="area")[0]
    red, green, blue = small
    opponent = torch.stack([(red + green + blue) / 3, 0.7 * (red - green), 0.7 * (0.5 * (red + green) - blue)])
    return functional.avg_pool2d(opponent[None], 3, 1, 1, count_include_pad=False)[0]


def _holding(image: Tensor, grid: int) -> Tensor:
    """Which cells (G, G) of an image (3, S, S) hold imagery alone: all but black that reaches the border, and what lies next to it."""
    black = functional.interpolate((image == 0).all(0).float()[None, None], size=(grid, grid), mode="area")[0, 0].numpy() > 1 - 1e-4
    if not black.any():
        return torch.ones(grid, grid, dtype=torch.bool)
    areas, _ = ndimage.label(black)
    border = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    missing = np.isin(areas, border[border > 0])
    if missing.any():
        missing = ndimage.binary_dilation(missing, np.ones((3, 3)), iterations=_EDGE)
    return torch.from_numpy(~missing)


def _longest_side(holding: Tensor) -> int:
    """Of the rectangle around the cells that hold imagery."""
    return max(int(holding.any(axis).sum()) for axis in (0, 1))


def _segmented(cells: Tensor, count: int, generator: torch.Generator) -> NDArray[np.int64]:
    """The nearest of ``count`` centres for each of cells (N, d), by k-means from random cells."""
    sample = cells[torch.randperm(len(cells), generator=generator)[:_SAMPLE]]
    centres = sample[:count].clone()
    for _ in range(_ROUNDS):
        nearest = torch.cdist(sample, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, sample)
        held = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(held > 0, total / held.clamp(min=1), centres)
    named: NDArray[np.int64] = torch.cdist(cells, centres).argmin(1).numpy()
    return named


def _segments(names: NDArray[np.int64], longest: float, config: ProposalConfig) -> NDArray[np.float32]:
    """Boxes (n, 4) as (x1, y1, x2, y2) in cells, around the connected segments of a map of names (G, G); -1 is nothing."""
    found = []
    for name in range(int(names.max()) + 1):
        segments, count = ndimage.label(names == name)
        if not count:
            continue
        sizes = np.bincount(segments.ravel(), minlength=count + 1)[1:]
        for place, size in zip(ndimage.find_objects(segments), sizes, strict=True):
            rows, columns = place
            height, width = rows.stop - rows.start, columns.stop - columns.start
            fits = min(height, width) >= config.least_cells and max(height, width) <= longest
            if fits and size >= config.least_filled * height * width:
                found.append((columns.start, rows.start, columns.stop, rows.stop))
    return np.array(found, np.float32).reshape(-1, 4)


def _standing_out(cells: Tensor, holding: Tensor, boxes: Tensor) -> Tensor:
    """How far the mean inside boxes (n, 4), in cells of a map (d, G, G), lies from that of a frame a quarter as wide around them.

    Cells that hold no imagery (G, G) count neither inside nor around; a box with too few others, or none around it, does not stand out.
    """
    grid = cells.shape[-1]
    sums = functional.pad(torch.cat([cells * holding, holding[None].to(cells)]), (1, 0, 1, 0)).double().cumsum(1).cumsum(2)

    def total(area: Tensor) -> Tensor:
        left, top, right, bottom = area.round().long().clamp(0, grid).unbind(1)
        return sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]

    margin = ((boxes[:, 2:] - boxes[:, :2]) / 4).clamp(min=1).repeat(1, 2)
    inside = total(boxes)
    around = total(boxes + margin * boxes.new_tensor([-1, -1, 1, 1])) - inside
    means = [part[:-1] / part[-1:].clamp(min=1e-6) for part in (inside, around)]
    enough = inside[-1] >= _LEAST_HELD * (boxes[:, 2:] - boxes[:, :2]).prod(1)
    distance: Tensor = (means[0] - means[1]).norm(dim=0).float() * (around[-1] > 0) * enough
    return distance


def propose_boxes(image: Tensor, config: ProposalConfig, *, features: Tensor | None = None, seed: int = 0) -> Tensor:
    """Boxes (n, 4) as (x1, y1, x2, y2) in pixels, those that stand out most first, at most ``config.boxes``.

    Of two boxes that stand out alike the larger one comes first: it is the rarer thing. Black that reaches the border is padding or
    no-data: it is no region, and nothing stands out of it.

    Args:
        image: (3, S, S) uint8, padded to the square with black.
        config: how many and of what kind.
        features: (C, H, W) of a backbone's fine level, by which boxes stand out; None for colours.
        seed: decides where the segmentations start.
    """
    generator = torch.Generator().manual_seed(seed)
    grid = config.grid
    colours = _colours(image.float() / 255, grid)
    cells = colours.flatten(1).t().contiguous()
    holding = _holding(image, grid)
    if not holding.any():
        return torch.zeros(0, 4)
    longest = config.largest * _longest_side(holding)
    found = []
    for count in config.colours:
        names = np.full((grid, grid), -1)
        names[holding.numpy()] = _segmented(cells[holding.flatten()], count, generator)
        found.append(_segments(names, longest, config))
    boxes = torch.from_numpy(np.concatenate(found))
    if not len(boxes):
        return torch.zeros(0, 4)
    seen = colours
    if features is not None:
        seen = functional.interpolate(features[None].float(), size=(grid, grid), mode="bilinear", align_corners=False)[0]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    scores = _standing_out(seen, holding, boxes) * area**_SIZE_MATTERS
    kept = nms(boxes, scores, config.overlap)
    kept = kept[scores[kept] > 0][: config.boxes]
    return boxes[kept] * (image.shape[-1] / grid)
