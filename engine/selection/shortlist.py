"""Which tiles of a large archive are compared with one another at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.selection.config import SelectionConfig
from engine.selection.pool import Pool, Seen, stratified

__all__ = ["by_chance", "class_weights", "promising"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def by_chance(pool: Pool, config: SelectionConfig, most: int | None = None) -> Integers:
    """Rising rows that are compared by their embeddings alone: all, or ``most`` (the shortlist) drawn at random, every scene its share."""
    most = config.shortlist_tiles if most is None else most
    if len(pool) <= most:
        return np.arange(len(pool))
    return np.sort(np.argsort(stratified(pool.scene_ids, np.random.default_rng([config.seed, 3])), kind="stable")[:most])


def promising(pool: Pool, config: SelectionConfig) -> Integers:
    """Rising rows that are compared by doubt, balance and coverage: a third for each, the last at random."""
    if pool.seen is None or len(pool) <= config.shortlist_tiles:
        return by_chance(pool, config)
    third = config.shortlist_tiles // 3
    doubtful = np.argsort(-pool.seen.uncertainty / pool.costs.seconds, kind="stable")
    balanced = _in_turns(pool.seen, pool.costs.seconds, class_weights(pool, pool.seen, config), third)
    return np.union1d(np.union1d(doubtful[:third], balanced), by_chance(pool, config, config.shortlist_tiles - 2 * third))


def class_weights(pool: Pool, seen: Seen, config: SelectionConfig) -> Floats:
    """What each class (C,) is worth in the balance: the more, the less sure the detector is of it."""
    wanted = np.where(np.isin(pool.class_names, config.wanted_classes), config.wanted_weight, 1.0)
    worth: Floats = wanted * (1 - seen.confidence) ** config.doubted_classes
    return worth


def _in_turns(seen: Seen, seconds: Floats, class_weights: Floats, number: int) -> Integers:
    """``number`` rows at most that add most to a class a second, the classes in turns: one of twice the weight comes up twice as often.

    By their sum a class that is on most tiles would fill the list, though it is worth little once some of them are chosen.
    """
    turn = np.full(len(seconds), np.inf)
    for label in np.flatnonzero(class_weights > 0):
        hinted = seen.hinted_counts[:, label]
        gain = (np.sqrt(seen.known_counts[label] + hinted) - np.sqrt(seen.known_counts[label])) / seconds
        best = np.argsort(-gain, kind="stable")[:number]
        best = best[gain[best] > 0]
        turn[best] = np.minimum(turn[best], (np.arange(len(best)) + 1) / class_weights[label])
    order: Integers = np.argsort(turn, kind="stable")[: min(number, int(np.isfinite(turn).sum()))]
    return order
