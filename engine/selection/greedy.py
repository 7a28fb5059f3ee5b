"""The best set that a budget pays for: lazy greedy on a monotone submodular objective."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.progress import Progress, silent

__all__ = ["Modular", "Objective", "Picks", "Rivals", "Weighted", "best_of_both", "lazy_greedy"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rivals = Callable[[int], Integers]
"""What has to wait once an element is chosen."""
HEADS = 31
"""Gains that are computed again beside one that must be: many at once take little longer than one."""


class Objective(Protocol):
    """A set function that is built up one element at a time; a gain never rises as the set grows, which is what lets greedy be lazy."""

    def gains(self, rows: Integers | None = None) -> Floats:
        """What each of the elements at ``rows`` (n,), or each of all (N,), would add now."""

    def add(self, index: int) -> None:
        """Choose ``index``."""


class Modular:
    """Elements whose values (N,) do not depend on one another."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    def gains(self, rows: Integers | None = None) -> Floats:
        """The values at ``rows`` (n,), or all (N,)."""
        return self._values if rows is None else self._values[rows]

    def add(self, index: int) -> None:
        """Nothing changes."""


class Weighted:
    """f = Σ weight · part, each part on a scale from 0 to 1 for the element that would add most to it first."""

    def __init__(self, parts: Sequence[tuple[float, Objective]]) -> None:
        self._parts: list[tuple[float, Objective]] = []
        for weight, part in parts:
            first = part.gains()
            largest = float(first.max(initial=0.0))
            if weight > 0 and largest > 0:
                self._parts.append((weight / largest, part))
            self._count = len(first)

    def gains(self, rows: Integers | None = None) -> Floats:
        """What each of the elements at ``rows`` (n,), or each of all (N,), would add now."""
        nothing: Floats = np.zeros(self._count if rows is None else len(rows))
        return sum((scale * part.gains(rows) for scale, part in self._parts), nothing)

    def add(self, index: int) -> None:
        """Choose ``index``."""
        for _, part in self._parts:
            part.add(index)


@dataclass(frozen=True)
class Picks:
    """Elements in the order in which they were chosen, what each added then, and the cost of all."""

    indices: tuple[int, ...]
    gains: tuple[float, ...]
    cost: float

    @property
    def value(self) -> float:
        """The objective's value of the whole set."""
        return math.fsum(self.gains)


def lazy_greedy(
    objective: Objective,
    costs: Floats,
    budget: float,
    *,
    per_cost: bool,
    deferred: NDArray[np.bool_] | Integers | None = None,
    rivals: Sequence[Rivals] = (),
    first: Sequence[int] = (),
    progress: Progress = silent,
) -> Picks:
    """Choose the element of the largest gain (or gain per cost) that the rest of the budget pays for, until nothing fits.

    A gain computed earlier bounds the gain now from above, so only the heads of a heap are computed again, some at a time (Minoux 1978).
    The picks are those of the plain greedy over the elements of level 0, then over those of level 1, and so on; ties go to the lower index.

    Args:
        objective: monotone submodular; changed by the call.
        costs: (N,) positive.
        budget: the sum of the costs of the picks never exceeds it.
        per_cost: compare gain/cost in place of gain.
        deferred: (N,) the level of each element, from 0: it is looked at only when no other of a lower one fits.
        rivals: rules, the mildest first: what the k-th lets wait once an element is chosen rises to level k + 1. At the highest level
            nothing can wait any longer.
        first: elements that are chosen before all others, whatever they add; the caller sees to it that the budget pays for them.
        progress: called once a pick.
    """
    bounds = objective.gains().astype(np.float64)
    weights = costs if per_cost else np.ones_like(costs)
    levels = np.zeros(len(costs), dtype=np.int64) if deferred is None else deferred.astype(np.int64)
    highest = max(len(rivals), int(levels.max(initial=0)))
    chosen: list[int] = []
    gains: list[float] = []
    spent = 0.0
    for index in first:
        gains.append(float(objective.gains(np.asarray([index]))[0]))
        objective.add(index)
        chosen.append(index)
        spent += float(costs[index])
        _raise_levels(levels, rivals, index)
    for level in range(highest + 1):
        taken = np.zeros(len(costs), dtype=bool)
        taken[chosen] = True
        heap = [(-bounds[index] / weights[index], int(index), 0) for index in np.flatnonzero((levels == level) & ~taken)]
        heapq.heapify(heap)
        while heap:
            _, index, computed_at = heapq.heappop(heap)
            if levels[index] != level or spent + costs[index] > budget:
                continue
            if computed_at != len(chosen):
                heads = [(index, computed_at), *((each, at) for _, each, at in (heapq.heappop(heap) for _ in range(min(HEADS, len(heap)))))]
                stale = np.asarray([each for each, at in heads if at != len(chosen)])
                bounds[stale] = objective.gains(stale)
                for each, _ in heads:
                    heapq.heappush(heap, (-bounds[each] / weights[each], each, len(chosen)))
                continue
            objective.add(index)
            chosen.append(index)
            gains.append(float(bounds[index]))
            spent += float(costs[index])
            if level < highest:
                _raise_levels(levels, rivals, index)
            progress(len(chosen), 0, "choosing tiles")
    return Picks(tuple(chosen), tuple(gains), spent)


def _raise_levels(levels: Integers, rivals: Sequence[Rivals], chosen: int) -> None:
    """Let wait what has to now that ``chosen`` is; nothing ever falls to a lower level."""
    for place, rule in enumerate(rivals):
        waiting = rule(chosen)
        levels[waiting] = np.maximum(levels[waiting], place + 1)


def best_of_both(
    objective: Callable[[], Objective],
    costs: Floats,
    budget: float,
    *,
    deferred: NDArray[np.bool_] | Integers | None = None,
    rivals: Callable[[], Sequence[Rivals]] = tuple,
    first: Sequence[int] = (),
    progress: Progress = silent,
) -> Picks:
    """The better of greedy on gain per cost and greedy on gain.

    Each alone can be arbitrarily bad; the better of the two reaches at least (1 − 1/e)/2 of the best set that the budget pays for
    (Leskovec et al., KDD 2007, section 3.1).
    """
    runs = [
        lazy_greedy(objective(), costs, budget, per_cost=per_cost, deferred=deferred, rivals=rivals(), first=first, progress=progress)
        for per_cost in (True, False)
    ]
    return max(runs, key=lambda picks: picks.value)
