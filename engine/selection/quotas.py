"""What waits once a tile is chosen: the same ground again, near-duplicates, and more than its share of a scene or of empty tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.selection.greedy import Rivals
from engine.selection.ground import Ground

__all__ = ["Quota", "joined", "near_duplicates", "same_ground"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def same_ground(scene_ids: Integers, windows_scene: Floats, share: float) -> Rivals:
    """The other tiles of a scene of which more than ``share`` lies in the chosen one."""
    ground = Ground(scene_ids, windows_scene)

    def rivals(index: int) -> Integers:
        found = ground.within(int(scene_ids[index]), windows_scene[index], share)
        others: Integers = found[found != index]
        return others

    return rivals


def near_duplicates(points: Floats, similarity: float) -> Rivals:
    """The other tiles (directions (N, d)) that look the same as the chosen one: from ``similarity`` in [−1, 1] on."""

    def rivals(index: int) -> Integers:
        found = np.flatnonzero(points @ points[index] >= similarity)
        others: Integers = found[found != index]
        return others

    return rivals


class Quota:
    """Once the chosen tiles of a group have cost more than its share of the budget, the rest of the group waits.

    Args:
        groups: (N,) the group of each tile; one below 0 has no quota.
        costs: (N,) seconds.
        limit: seconds that a group may cost before it waits.
        spent: seconds by group that it has cost before the first tile is chosen.
    """

    def __init__(self, groups: Integers, costs: Floats, limit: float, spent: Mapping[int, float] | None = None) -> None:
        self._groups, self._costs, self._limit = groups, costs, limit
        self._order = np.argsort(groups, kind="stable")
        self._sorted = groups[self._order]
        self._spent = dict(spent or {})
        self._closed: set[int] = set()

    @property
    def waiting_first(self) -> NDArray[np.bool_]:
        """Mask (N,) of the tiles of groups that have had their share before the first tile is chosen."""
        over = [group for group in np.unique(self._groups[self._groups >= 0]).tolist() if self._spent.get(group, 0.0) >= self._limit]
        mask: NDArray[np.bool_] = np.isin(self._groups, over)
        return mask

    def __call__(self, index: int) -> Integers:
        """The tiles that wait now that ``index`` is chosen."""
        group = int(self._groups[index])
        if group < 0:
            return np.zeros(0, dtype=np.int64)
        self._spent[group] = self._spent.get(group, 0.0) + float(self._costs[index])
        if group in self._closed or self._spent[group] < self._limit:
            return np.zeros(0, dtype=np.int64)
        self._closed.add(group)
        first, end = np.searchsorted(self._sorted, [group, group + 1])
        waiting = self._order[first:end]
        others: Integers = waiting[waiting != index]
        return others


def joined(rules: Sequence[Rivals]) -> Rivals:
    """All that any of the rules lets wait."""

    def rivals(index: int) -> Integers:
        found = [rule(index) for rule in rules]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    return rivals
