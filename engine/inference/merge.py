"""One set of boxes out of many overlapping windows: every object once, whole where any window saw it whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from engine.boxes import Boxes, box_area
from engine.errors import UsageError
from engine.inference.overlapping import intersection_areas, overlapping_pairs
from engine.records import Window

__all__ = ["MergeRules", "merge_windows"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

WHOLE, JOINED, CUT = 0, 1, 2


@dataclass(frozen=True)
class MergeRules:
    """When two boxes of a class are one object.

    Args:
        iou_threshold: two boxes with at least this intersection over union are the same object.
        cover_threshold: a box cut by its window's edge is dropped where a whole box of another window covers this share of it.
        agreement_threshold: two cut boxes are parts of one object where, on the ground that both windows saw, their IoU reaches this.
        edge_margin: a box this near to an inner edge of its window counts as cut, in pixels.

    Raises:
        UsageError: a threshold outside (0, 1], or a negative margin.
    """

    iou_threshold: float = 0.5
    cover_threshold: float = 0.7
    agreement_threshold: float = 0.5
    edge_margin: float = 4.0

    def __post_init__(self) -> None:
        for name in ("iou_threshold", "cover_threshold", "agreement_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} = {getattr(self, name)}", expected="a share above 0 and at most 1")
        if not self.edge_margin > 0:
            raise UsageError(f"edge_margin = {self.edge_margin}", expected="pixels above 0")


@dataclass(frozen=True, eq=False)
class _Findings:
    """N boxes of a scene with the window (N,) that each was seen in, its extent ``seen`` (N, 4), and the sides cut there (N, 4)."""

    xyxy: Floats
    labels: Integers
    scores: Floats
    window: Integers
    seen: Floats
    cut: Mask

    @property
    def is_cut(self) -> Mask:
        some: Mask = np.asarray(self.cut.any(1))
        return some

    def take(self, index: Integers | Mask) -> _Findings:
        return _Findings(self.xyxy[index], self.labels[index], self.scores[index], self.window[index], self.seen[index], self.cut[index])


def merge_windows(found: Sequence[tuple[Window, Boxes]], width: int, height: int, rules: MergeRules | None = None) -> Boxes:
    """The objects of a scene of ``width`` × ``height`` pixels, from the boxes found in its windows.

    1. In each window, non-maximum suppression by class.
    2. A box that touches an inner edge of its window may be cut there. Where another window's whole box covers it, it is dropped,
       whatever the scores.
    3. Cut boxes of different windows that agree on the ground both windows saw are parts of one object that no window saw whole:
       their union takes their place, with the highest of their scores.
    4. Non-maximum suppression by class over all, whole boxes first, then unions, then what stayed cut.

    Args:
        found: windows and their scored boxes in the scene frame; what lies outside its window is clipped. Any order.
        width: of the scene, in pixels.
        height: of the scene, in pixels.
        rules: thresholds.

    Returns:
        Scored boxes in the scene frame, by descending score, ties by coordinates. The order of ``found`` makes no difference.
    """
    rules = rules or MergeRules()
    findings = _gather(found, width, height, rules.edge_margin)
    trust = np.where(findings.is_cut, CUT, WHOLE)
    findings = findings.take(_suppress(findings, trust, rules.iou_threshold, same_window=True))
    findings = findings.take(~_covered_by_a_neighbour(findings, rules.cover_threshold))
    merged, trust = _join_parts(findings, rules)
    merged = merged.take(_suppress(merged, trust, rules.iou_threshold, same_window=False))
    order = _ranked(merged, np.zeros(len(merged.labels), dtype=np.int64))
    return Boxes(merged.xyxy[order], merged.labels[order], merged.scores[order])


def _gather(found: Sequence[tuple[Window, Boxes]], width: int, height: int, edge_margin: float) -> _Findings:
    windows = np.array([window.xyxy for window, _ in found], dtype=np.float64).reshape(-1, 4)
    of_window = np.repeat(np.arange(len(found)), [len(boxes) for _, boxes in found])
    seen = windows[of_window]
    empty = Boxes.empty(scored=True)
    boxes = [empty, *(boxes for _, boxes in found)]
    xyxy = np.concatenate([part.xyxy for part in boxes])
    xyxy = np.concatenate([np.maximum(xyxy[:, :2], seen[:, :2]), np.minimum(xyxy[:, 2:], seen[:, 2:])], axis=1)
    inner = seen[:, :2] > 0, seen[:, 2:] < [width, height]
    near = xyxy[:, :2] <= seen[:, :2] + edge_margin, xyxy[:, 2:] >= seen[:, 2:] - edge_margin
    findings = _Findings(
        xyxy,
        np.concatenate([part.labels for part in boxes]),
        np.concatenate([part.scores for part in boxes if part.scores is not None]),
        of_window,
        seen,
        np.concatenate([inner[0] & near[0], inner[1] & near[1]], axis=1),
    )
    return findings.take(np.flatnonzero((xyxy[:, 2:] > xyxy[:, :2]).all(1)))


def _ranked(findings: _Findings, trust: Integers) -> Integers:
    """Indices, the most trusted first, then the highest score; ties by content, so that the order of input makes no difference."""
    x1, y1, x2, y2 = findings.xyxy.T
    order: Integers = np.lexsort((findings.labels, y2, x2, y1, x1, -findings.scores, trust))
    return order


def _pairs_where(a: _Findings, b: _Findings, holds: Callable[[Integers, Integers], Mask]) -> tuple[Integers, Integers]:
    """All pairs of overlapping boxes of one class for which ``holds(i, j)``."""
    kept = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for i, j in overlapping_pairs(a.xyxy, b.xyxy):
        same = a.labels[i] == b.labels[j]
        i, j = i[same], j[same]  # noqa: PLW2901
        right = holds(i, j)
        kept.append((i[right], j[right]))
    return np.concatenate([i for i, _ in kept]), np.concatenate([j for _, j in kept])


def _suppress(findings: _Findings, trust: Integers, iou_threshold: float, *, same_window: bool) -> Integers:
    """Greedy non-maximum suppression by class: the indices that stay; with ``same_window`` only boxes of one window compete."""
    area = box_area(findings.xyxy)
    position = np.empty(len(area), dtype=np.int64)
    position[_ranked(findings, trust)] = np.arange(len(area))

    def rivals(i: Integers, j: Integers) -> Mask:
        shared = intersection_areas(findings.xyxy[i], findings.xyxy[j])
        overlap: Mask = shared >= iou_threshold * (area[i] + area[j] - shared)
        if same_window:
            overlap &= findings.window[i] == findings.window[j]
        overlap &= position[i] < position[j]
        return overlap

    stronger, weaker = _pairs_where(findings, findings, rivals)
    stronger, weaker = position[stronger], position[weaker]
    by_stronger = np.argsort(stronger, kind="stable")
    weaker = weaker[by_stronger]
    bounds = np.searchsorted(stronger[by_stronger], np.arange(len(area) + 1))
    alive = np.ones(len(area), dtype=np.bool_)
    for rank in np.flatnonzero(np.diff(bounds)):
        if alive[rank]:
            alive[weaker[bounds[rank] : bounds[rank + 1]]] = False
    return np.flatnonzero(alive[position])


def _covered_by_a_neighbour(findings: _Findings, cover_threshold: float) -> Mask:
    """Which boxes are cut and stand, for the most part, inside a whole box that another window saw."""
    is_cut = findings.is_cut
    cut_index = np.flatnonzero(is_cut)
    cut, whole = findings.take(cut_index), findings.take(~is_cut)
    area = box_area(cut.xyxy)

    def covers(i: Integers, j: Integers) -> Mask:
        most: Mask = intersection_areas(cut.xyxy[i], whole.xyxy[j]) >= cover_threshold * area[i]
        most &= cut.window[i] != whole.window[j]
        return most

    covered = np.zeros(len(is_cut), dtype=np.bool_)
    covered[cut_index[_pairs_where(cut, whole, covers)[0]]] = True
    return covered


def _join_parts(findings: _Findings, rules: MergeRules) -> tuple[_Findings, Integers]:
    """Put the union of the parts in their place; returns the findings and how far each is to be trusted."""
    is_cut = findings.is_cut
    whole, cut = findings.take(~is_cut), findings.take(is_cut)
    margin = np.array([-1, -1, 1, 1]) * rules.edge_margin
    reach = _Findings(cut.xyxy + cut.cut * margin, cut.labels, cut.scores, cut.window, cut.seen + margin, cut.cut)
    first, second = _pairs_where(reach, reach, lambda i, j: _agree(reach, i, j, rules.agreement_threshold))
    graph = coo_matrix((np.ones(len(first), dtype=np.bool_), (first, second)), shape=(len(cut.labels), len(cut.labels)))
    number, part_of = connected_components(graph, directed=False)
    low, high = np.full((number, 2), np.inf), np.full((number, 2), -np.inf)
    scores, representative = np.zeros(number), np.zeros(number, dtype=np.int64)
    np.minimum.at(low, part_of, cut.xyxy[:, :2])
    np.maximum.at(high, part_of, cut.xyxy[:, 2:])
    np.maximum.at(scores, part_of, cut.scores)
    representative[part_of] = np.arange(len(part_of))
    of_union = cut.take(representative)
    union = _Findings(np.concatenate([low, high], axis=1), of_union.labels, scores, of_union.window, of_union.seen, of_union.cut)
    trust = np.where(np.bincount(part_of, minlength=number) > 1, JOINED, CUT)
    merged = _Findings(
        *(np.concatenate([getattr(whole, name), getattr(union, name)]) for name in ("xyxy", "labels", "scores", "window", "seen", "cut"))
    )
    return merged, np.concatenate([np.full(len(whole.labels), WHOLE), trust])


def _agree(reach: _Findings, i: Integers, j: Integers, threshold: float) -> Mask:
    """Whether, clipped to the ground that both windows saw, two boxes are nearly the same.

    Cut sides and windows reach ``edge_margin`` beyond the edge, so that windows which only touch still share a strip to agree on.
    """
    low = np.maximum(reach.seen[i, :2], reach.seen[j, :2])
    high = np.minimum(reach.seen[i, 2:], reach.seen[j, 2:])
    ground = np.concatenate([low, high], axis=1)
    shown_i, shown_j = _clip(reach.xyxy[i], ground), _clip(reach.xyxy[j], ground)
    shared = intersection_areas(shown_i, shown_j)
    agree: Mask = (shared > 0) & (shared >= threshold * (box_area(shown_i) + box_area(shown_j) - shared))
    agree &= reach.window[i] < reach.window[j]
    return agree


def _clip(xyxy: Floats, ground: Floats) -> Floats:
    return np.concatenate([np.maximum(xyxy[:, :2], ground[:, :2]), np.minimum(xyxy[:, 2:], ground[:, 2:])], axis=1)
