"""Which boxes of two large sets overlap: a spatial hash with one grid for each power of two of box size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["intersection_areas", "overlapping_pairs"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PAIRS_AT_ONCE = 1 << 20


def intersection_areas(a: Floats, b: Floats) -> Floats:
    """Areas (P,) that boxes ``a`` (P, 4) and ``b`` (P, 4) share row by row, in squared pixels."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    area: Floats = np.clip(sides, 0, None).prod(1)
    return area


def overlapping_pairs(a: Floats, b: Floats) -> Iterator[tuple[Integers, Integers]]:
    """Yield index arrays (i, j) until every pair was given once for which ``a[i]`` and ``b[j]`` share area; order undefined.

    Two boxes whose longer side is at most s overlap only if their centres lie in the same or in adjacent cells of a grid with cells
    of size s. So each pair of size classes (powers of two) is joined on the grid of the larger one; nothing is approximate.

    Args:
        a: boxes (N, 4) as x1, y1, x2, y2.
        b: boxes (M, 4).
    """
    if not len(a) or not len(b):
        return
    size_class_a, size_class_b = _size_classes(a), _size_classes(b)
    for of_a in np.unique(size_class_a):
        for of_b in np.unique(size_class_b):
            cell = 2.0 ** max(of_a, of_b)
            for i, j in _join(a, np.flatnonzero(size_class_a == of_a), b, np.flatnonzero(size_class_b == of_b), cell):
                shared = intersection_areas(a[i], b[j]) > 0
                yield i[shared], j[shared]


def _size_classes(xyxy: Floats) -> Integers:
    longer_side = (xyxy[:, 2:] - xyxy[:, :2]).max(1)
    classes: Integers = np.ceil(np.log2(np.maximum(longer_side, 2.0**-20))).astype(np.int64)
    return classes


def _cells(xyxy: Floats, cell: float) -> Integers:
    cells: Integers = np.floor((xyxy[:, :2] + xyxy[:, 2:]) / (2 * cell)).astype(np.int64)
    return cells


def _join(a: Floats, rows_a: Integers, b: Floats, rows_b: Integers, cell: float) -> Iterator[tuple[Integers, Integers]]:
    cells_a, cells_b = _cells(a[rows_a], cell), _cells(b[rows_b], cell)
    origin = np.minimum(cells_a.min(0), cells_b.min(0)) - 1
    columns = int(max(cells_a[:, 0].max(), cells_b[:, 0].max()) - origin[0]) + 2
    keys_a, keys_b = ((cells[:, 1] - origin[1]) * columns + cells[:, 0] - origin[0] for cells in (cells_a, cells_b))
    order = np.argsort(keys_b, kind="stable")
    keys_b = keys_b[order]
    for row in (-1, 0, 1):
        first = np.searchsorted(keys_b, keys_a + row * columns - 1, side="left")
        counts = np.searchsorted(keys_b, keys_a + row * columns + 1, side="right") - first
        for part in _parts(counts):
            of_part = counts[part]
            starts = np.repeat(first[part] - np.cumsum(of_part) + of_part, of_part)
            yield np.repeat(rows_a[part], of_part), rows_b[order[starts + np.arange(of_part.sum())]]


def _parts(counts: Integers) -> Iterator[slice]:
    """Slices of ``counts`` whose sums stay near ``PAIRS_AT_ONCE``, so that memory is bounded however crowded the boxes are."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
        if ends[stop - 1] > before:
            yield slice(start, stop)
        start = stop
