"""Sampling of multi-scale maps at points, in three forms that give the same numbers (Deformable DETR, section 4.1, equation 3).

All compute, for every query and head, the sum over levels and points of a weight times the bilinear value of the level's map at the point;
outside a map its values are 0, and token (i, j) of a map of (height, width) lies at ((j + ½) / width, (i + ½) / height).

- ``grid``: torch's grid_sample, a level at a time. Any device; exports as GridSample.
- ``gather``: only gathers and arithmetic; exports without GridSample, which some versions of TensorRT compute wrong.
- ``rows``: the weighted sum as one sparse product over tokens. For a CPU, where it is quicker than grid_sample: a token's channels are read
  in one go, not a map a channel. It cannot be exported.

Shapes: B images, Q queries, H heads, L levels, P points, T tokens of all levels, C channels of a head.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["Sampler", "read_grids", "sample", "use_sampler"]

Sampler = Literal["auto", "grid", "gather", "rows"]
Shapes = list[tuple[int, int]]


def _resolved(sampler: Sampler, value: Tensor) -> Sampler:
    """The form that ``auto`` stands for where ``value`` lies."""
    if sampler != "auto":
        return sampler
    return "grid" if value.device.type != "cpu" or torch.compiler.is_compiling() else "rows"


def sample(value: Tensor, places: Tensor, weights: Tensor, shapes: Shapes, sampler: Sampler = "auto") -> Tensor:
    """Weighted sum of the maps' values at points.

    Args:
        value: (B, T, H, C), the tokens of all levels; float32.
        places: (B, Q, H, L, P, 2) as (x, y); 0 and 1 are the edges of the image; float32.
        weights: (B, Q, H, L, P); float32.
        shapes: (height, width) of each level.
        sampler: the form; ``auto`` takes ``rows`` on a CPU and ``grid`` elsewhere and for export.

    Returns:
        (B, Q, H·C), float32.
    """
    sampler = _resolved(sampler, value)
    if sampler == "rows":
        output: Tensor = _Rows.apply(_table(value, shapes), places, weights, shapes)
        return output
    return (_grid if sampler == "grid" else _gather)(value, places, weights, shapes)


def read_grids(value: Tensor, boxes: Tensor, side: int, level: Tensor, shapes: Shapes, sampler: Sampler = "auto") -> Tensor:
    """The maps' values in the middle of S × S cells of every box, each box on one level (RoIAlign with one point a cell).

    Args:
        value: (B, T, C), the tokens of all levels; float32 or bfloat16.
        boxes: (B, N, 4) as (cx, cy, w, h), normalised; float32. They get no gradient.
        side: S.
        level: (B, N) int64, the level of each box.
        shapes: (height, width) of each level.
        sampler: the form, as in :func:`sample`; ``grid`` gathers too, for a map of its own a level would be read in every box.

    Returns:
        (B, N, S², C), row by row, of the kind of ``value``.
    """
    table = _table(value[:, :, None], shapes)
    rows, shares = _cells(boxes.detach(), side, level, shapes)
    if _resolved(sampler, value) == "rows":
        read: Tensor = _Read.apply(table, rows.flatten(0, 2), shares.flatten(0, 2))
        return read.view(*rows.shape[:3], -1)
    found = table.index_select(0, rows.flatten()).view(-1, 4, value.shape[-1])
    return torch.matmul(shares.to(value.dtype).view(-1, 1, 4), found).view(*rows.shape[:3], -1)


def use_sampler(model: nn.Module, sampler: Sampler) -> None:
    """Let every part of ``model`` that samples do so in this form; it may be changed at any time."""
    for module in model.modules():
        if hasattr(module, "sampler"):
            setattr(module, "sampler", sampler)  # noqa: B010


def _grid(value: Tensor, places: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    batch, queries = places.shape[:2]
    grids = (places * 2 - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    shares = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]
    gathered: Tensor | None = None
    start = 0
    for level, (height, width) in enumerate(shapes):
        tokens = value[:, start : start + height * width]
        start += height * width
        grid_map = tokens.permute(0, 2, 3, 1).reshape(-1, value.shape[-1], height, width)
        sampled = functional.grid_sample(grid_map, grids[level], mode="bilinear", padding_mode="zeros", align_corners=False)
        part = (sampled * shares[level]).sum(-1)
        gathered = part if gathered is None else gathered + part
    assert gathered is not None
    return gathered.view(batch, -1, queries).transpose(1, 2)


class _Corners(NamedTuple):
    """The four tokens around each point, of maps that have a border of zeros; K points a query and head."""

    rows: tuple[Tensor, Tensor, Tensor, Tensor]
    """(B, Q, H, K) rows of the table of values, those upper left, upper right, lower left and lower right; int32."""
    right: Tensor
    """(B, Q, H, K) in [0, 1], how far the point lies from the left to the right tokens. A point that is no number stays none."""
    down: Tensor
    """(B, Q, H, K) in [0, 1], how far it lies from the upper to the lower tokens."""

    def shares(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bilinear weights (B, Q, H, K) in the order of ``rows``."""
        both = self.right * self.down
        return 1 - self.right - self.down + both, self.right - both, self.down - both, both


def _table(value: Tensor, shapes: Shapes) -> Tensor:
    """Tokens (B, T, H, C) with a border of zeros around every level, as rows (B·T'·H, C): then no point needs to be asked where it lies."""
    batch, channels = value.shape[0], value.shape[-1]
    levels = torch.split(value.flatten(2), [height * width for height, width in shapes], 1)
    padded = [
        functional.pad(level.reshape(batch, height, width, -1), (0, 0, 1, 1, 1, 1)).flatten(1, 2)
        for level, (height, width) in zip(levels, shapes, strict=True)
    ]
    return torch.cat(padded, 1).reshape(-1, channels) if len(padded) > 1 else padded[0].reshape(-1, channels)


def _corners(places: Tensor, shapes: Shapes) -> _Corners:
    """Where to look in :func:`_table` for points (B, Q, H, L, P, 2)."""
    batch, _, heads, _, points, _ = places.shape

    def each(numbers: list[int]) -> Any:
        """One number a point: a tensor (K,), or the plain number where there is one level."""
        if len(numbers) == 1:
            return numbers[0]
        return torch.tensor(numbers, dtype=torch.int32, device=places.device).repeat_interleave(points)

    sizes, first = _table_rows(shapes)
    starts = each(first)
    widths, heights = each([width for _, width in shapes]), each([height for height, _ in shapes])
    left, right = _before(places[..., 0].flatten(3), widths)
    top, down = _before(places[..., 1].flatten(3), heights)
    image = torch.arange(batch, dtype=torch.int32, device=places.device).view(-1, 1, 1, 1) * sizes
    head = torch.arange(heads, dtype=torch.int32, device=places.device).view(-1, 1)
    upper_left = (top * (widths + 2) + left + (starts + image)) * heads + head
    lower_left = upper_left + (widths + 2) * heads
    return _Corners((upper_left, upper_left + heads, lower_left, lower_left + heads), right, down)


def _table_rows(shapes: Shapes) -> tuple[int, list[int]]:
    """How many rows of :func:`_table` an image has a head, and the first of each level."""
    sizes = [(height + 2) * (width + 2) for height, width in shapes]
    return sum(sizes), [sum(sizes[:level]) for level in range(len(shapes))]


def _before(coordinate: Tensor, side: Any) -> tuple[Tensor, Tensor]:
    """The token before each coordinate, the first of the border being 0, as int32, and how far the coordinate lies behind it, in [0, 1].

    Args:
        coordinate: where 0 and 1 are the edges of the image.
        side: tokens from edge to edge.
    """
    place = (coordinate * side + 0.5).clamp(min=0).clamp(max=side + 1)
    token = place.detach().to(torch.int32).clamp(min=0).clamp(max=side)
    return token, place - token


def _cells(boxes: Tensor, side: int, level: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
    """Rows of :func:`_table` around the middles of a box's cells, int32, and their bilinear weights, (B, N, S², 4) each.

    The cells of a row share what is computed for y, those of a column what is for x.
    """
    device = boxes.device
    steps = (torch.arange(side, device=device) + 0.5) / side - 0.5
    rows_of_image, first = _table_rows(shapes)

    def each(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int32, device=device)[level][..., None]

    heights, widths = each([height for height, _ in shapes]), each([width for _, width in shapes])
    left, right = _before(boxes[..., 0:1] + steps * boxes[..., 2:3], widths)
    top, down = _before(boxes[..., 1:2] + steps * boxes[..., 3:4], heights)
    image = torch.arange(boxes.shape[0], dtype=torch.int32, device=device).view(-1, 1, 1) * rows_of_image
    upper = (top * (widths + 2) + each(first) + image)[..., None]
    left = left[:, :, None]
    corners = [row + column for row in (upper, upper + (widths + 2)[..., None]) for column in (left, left + 1)]
    down, right = down[..., None], right[:, :, None]
    lower = right * down
    shares = [1 - right - down + lower, right - lower, down - lower, lower]
    return torch.stack(corners, -1).flatten(2, 3), torch.stack(shares, -1).flatten(2, 3)


def _gather(value: Tensor, places: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    batch, _, heads, channels = value.shape
    levels = torch.split(value, [height * width for height, width in shapes], 1)
    gathered: Tensor | None = None
    for level, shape in enumerate(shapes):
        corners = _corners(places[:, :, :, level : level + 1], [shape])
        shares = torch.cat(corners.shares(), -1) * weights[:, :, :, level].repeat(1, 1, 1, 4)
        found = _table(levels[level], [shape]).index_select(0, torch.cat(corners.rows, -1).flatten())
        part = torch.matmul(shares[:, :, :, None], found.view(batch, -1, heads, shares.shape[-1], channels))
        gathered = part if gathered is None else gathered + part
    assert gathered is not None
    return gathered.reshape(batch, -1, heads * channels)


class _Rows(torch.autograd.Function):
    """The sum as a sparse matrix (B·Q·H rows, 4·K entries in each) times the table of values, with its gradients by hand."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
        batch, queries, heads, levels, points, _ = places.shape
        corners = _corners(places, shapes)
        flat = (batch * queries * heads, levels * points)
        rows = [row.view(flat) for row in corners.rows]
        shares = [(share.view(flat) * weights.reshape(flat)).to(table.dtype) for share in corners.shares()]
        summed: Tensor | None = None
        for row, share in zip(rows, shares, strict=True):
            part = functional.embedding_bag(row, table, mode="sum", per_sample_weights=share)
            summed = part if summed is None else summed.add_(part)
        assert summed is not None
        ctx.save_for_backward(table, places, weights, *rows, *shares, corners.right, corners.down)
        ctx.shapes = shapes
        return summed.view(batch, queries, heads * table.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        table, places, weights, *held, right, down = ctx.saved_tensors
        rows, shares = torch.cat(held[:4], 1), torch.cat(held[4:], 1)
        gradient = gradient.reshape(len(rows), -1).float()
        table_gradient = _scattered(rows, shares, gradient, len(table)).to(table.dtype) if ctx.needs_input_grad[0] else None
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return table_gradient, None, None, None
        products = _products(rows, gradient, table).view(*right.shape[:3], 4, -1)
        upper_left, upper_right, lower_left, lower_right = products.unbind(3)
        upper, lower = torch.lerp(upper_left, upper_right, right), torch.lerp(lower_left, lower_right, right)
        weight_gradient = torch.lerp(upper, lower, down)
        across = torch.lerp(upper_right - upper_left, lower_right - lower_left, down)
        along = lower - upper
        share = weights.reshape(right.shape)
        widths, heights = (
            places.new_tensor(each).repeat_interleave(places.shape[4]) for each in zip(*[shape[::-1] for shape in ctx.shapes], strict=True)
        )
        steps = [
            gradients * share * sides * _within(places[..., axis].flatten(3), sides)
            for axis, (gradients, sides) in enumerate(((across, widths), (along, heights)))
        ]
        return table_gradient, torch.stack(steps, -1).view(places.shape), weight_gradient.view(weights.shape), None


class _Read(torch.autograd.Function):
    """Bilinear values of a table (R, C) from rows (M, 4) with weights (M, 4): (M, C). Only the table gets a gradient, summed in float32."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(rows, shares)
        ctx.count = len(table)
        return functional.embedding_bag(rows, table, mode="sum", per_sample_weights=shares.to(table.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        rows, shares = ctx.saved_tensors
        return _scattered(rows, shares, gradient.float(), ctx.count).to(gradient.dtype), None, None


def _within(coordinate: Tensor, sides: Tensor) -> Tensor:
    """Whether a coordinate (…, K) of the image is less than half a token outside a map with ``sides`` (K,): beyond, nothing changes."""
    shifted = coordinate * sides + 0.5
    return (shifted > 0) & (shifted < sides + 1)


def _scattered(rows: Tensor, shares: Tensor, gradient: Tensor, count: int) -> Tensor:
    """The transposed sparse matrix times ``gradient`` (R, C): what each of ``count`` table rows gave away, gathered back, (count, C)."""
    entries = rows.shape[1]
    starts = np.arange(0, rows.numel() + 1, entries, dtype=np.int32)
    matrix = sparse.csc_matrix((shares.flatten().numpy(), rows.flatten().numpy(), starts), shape=(count, len(rows)))
    return torch.from_numpy(matrix @ gradient.contiguous().numpy())


def _products(rows: Tensor, gradient: Tensor, table: Tensor) -> Tensor:
    """Scalar products (R, K) of ``gradient`` (R, C) with the table's ``rows`` (R, K)."""
    starts = torch.arange(0, rows.numel() + 1, rows.shape[1], dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        pattern = torch.sparse_csr_tensor(
            starts, rows.flatten(), gradient.new_zeros(rows.numel()), (len(rows), len(table)), check_invariants=False
        )
        torch.sparse.sampled_addmm(pattern, gradient, table.t(), beta=0.0, out=pattern)
    return pattern.values().view(rows.shape)
