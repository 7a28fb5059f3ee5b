"""The strategies: each takes the tiles that can be chosen, and gives those that the budget pays for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.progress import Progress
from engine.selection.balance import ClassBalance
from engine.selection.class_diversity import diverse_order, tile_distances
from engine.selection.config import SelectionConfig, Strategy, uncertainty_weight
from engine.selection.coverage import Directions, FacilityLocation, KCenter, far_tails, nearest
from engine.selection.greedy import Modular, Objective, Picks, Rivals, Weighted, best_of_both, lazy_greedy
from engine.selection.pool import Pool, Seen, stratified
from engine.selection.prob_cover import BallCover, ball_reach
from engine.selection.quotas import Quota, joined, near_duplicates, same_ground
from engine.selection.shortlist import by_chance, class_weights, promising
from engine.selection.typicality import typical_order

__all__ = ["STRATEGIES", "Choice"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_COMPARED = 2000
EMPTY_BELOW = 0.5
TOO_MANY_EMPTY, REPEATED = 2, 3
"""Levels of what waits longer than for its scene's quota: empty tiles beyond theirs, and what is labelled or chosen already."""


@dataclass(frozen=True)
class Choice:
    """Rows of the pool as they were picked, what each added, how much each ground weighed, and which rows are the audit slice."""

    picks: Picks
    weights: Mapping[str, float] = field(default_factory=dict)
    audit: frozenset[int] = frozenset()


def random(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """At random, every scene its share."""
    place = stratified(pool.scene_ids, np.random.default_rng(config.seed))
    return Choice(_in_order(np.argsort(place, kind="stable"), pool, config, progress))


def entropy_mean(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """By the mean entropy of all queries, whatever they cost: what a detector with one box an object is often ranked by."""
    if pool.query_entropy is None or not np.isfinite(pool.query_entropy).all():
        raise _missing("entropy-mean", "predictions of a fine-tuned detector")
    return Choice(_in_order(np.argsort(-pool.query_entropy, kind="stable"), pool, config, progress), {"uncertainty": 1.0})


def k_center(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """The tile farthest from all that is chosen or labelled, again and again (arXiv 1708.00489)."""
    rows = by_chance(pool, config)
    from_mean = _directions(pool, "k-center").distance_from_mean(pool.rows[rows])
    centres = KCenter(pool.points(rows), pool.known_points, from_mean)
    last = pool.deferred[rows] | far_tails(from_mean, config.tail_share)
    picks = lazy_greedy(
        centres,
        pool.costs.seconds[rows],
        config.budget_seconds,
        per_cost=False,
        deferred=last,
        rivals=[same_ground(pool.scene_ids[rows], pool.windows_scene[rows], config.overlap_share)],
        progress=progress,
    )
    return Choice(_of_pool(picks, rows), {"coverage": 1.0})


def typiclust(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """Typical tiles of clusters that nobody has labelled (arXiv 2202.02794)."""
    _directions(pool, "typiclust")
    rows = by_chance(pool, config)
    wanted = max(1, round(config.budget_seconds / float(pool.costs.seconds[rows].mean())))
    order = typical_order(pool.points(rows), pool.known_points, wanted, np.random.default_rng(config.seed))
    return Choice(_in_order(rows[order], pool, config, progress), {"coverage": 1.0})


def prob_cover(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """Tiles with the most others in reach that no label reaches (arXiv 2205.11320)."""
    _directions(pool, "prob-cover")
    rows = by_chance(pool, config)
    points, references = pool.points(rows), _references(pool, config)
    reach = ball_reach(references, max(len(pool.class_names), 2), np.random.default_rng(config.seed))
    cover = BallCover(points, pool.known_points, references, reach)
    rivals = same_ground(pool.scene_ids[rows], pool.windows_scene[rows], config.overlap_share)
    picks = lazy_greedy(
        cover,
        pool.costs.seconds[rows],
        config.budget_seconds,
        per_cost=False,
        deferred=pool.deferred[rows],
        rivals=[rivals],
        progress=progress,
    )
    return Choice(_of_pool(picks, rows), {"coverage": 1.0})


def ppal(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """Doubt weighed by the difficulty of the classes, then diversity of the objects (arXiv 2211.11612).

    Its batch is counted in tiles, as in the paper: as many as the budget pays for on average; at most 2,000 candidates are compared.
    """
    if pool.seen is None:
        raise _missing("ppal", "predictions of a fine-tuned detector")
    wanted = max(1, round(config.budget_seconds / float(pool.costs.seconds.mean())))
    doubtful = np.lexsort((np.arange(len(pool)), -pool.seen.weighed_uncertainty, pool.deferred))
    head = doubtful[: min(max(wanted, round(config.candidate_factor * wanted)), MOST_COMPARED)]
    rows = np.sort(head)
    distances = tile_distances(pool.seen.objects, rows)
    worth = np.searchsorted(rows, head)
    order = head[diverse_order(distances[np.ix_(worth, worth)], wanted)]
    return Choice(_in_order(np.concatenate([order, doubtful[len(head) :]]), pool, config, progress), {"uncertainty": 1.0})


def tilehawk(pool: Pool, config: SelectionConfig, progress: Progress) -> Choice:
    """Balance of the classes and coverage, later doubt too, each second for what it brings; a slice at random to be held against."""
    weights = _weights(pool, config)
    if not weights:
        return random(pool, config, progress)
    audit = _audit_slice(pool, config)
    if pool.seen is not None and config.audit_share and not len(audit):
        progress(0, 0, "no tile is drawn at random to hold the choice against: the budget pays for fewer than two on new ground")
    rows = np.union1d(promising(pool, config), audit)
    seconds = pool.costs.seconds[rows]
    points = None if pool.directions is None else pool.points(rows)
    known = None if points is None else pool.known_points
    repeated = pool.deferred[rows] if points is None or known is None else pool.deferred[rows] | _looks_known(points, known, config)
    references = None if points is None else _references(pool, config)

    def objective() -> Objective:
        parts: list[tuple[float, Objective]] = []
        if points is not None and known is not None and references is not None:
            parts.append((weights["coverage"], FacilityLocation(points, known, references)))
        if pool.seen is not None:
            parts.append((weights["uncertainty"], Modular(pool.seen.uncertainty[rows])))
            parts.append((weights["balance"], _balance(pool, pool.seen, rows, config)))
        return Weighted(parts)

    picks = best_of_both(
        objective,
        seconds,
        config.budget_seconds,
        deferred=np.where(repeated, REPEATED, _had_their_share(pool, rows, config)),
        rivals=lambda: _rules(pool, rows, points, config),
        first=np.searchsorted(rows, audit).tolist(),
        progress=progress,
    )
    return Choice(_of_pool(picks, rows), weights, frozenset(audit.tolist()))


STRATEGIES: dict[Strategy, Callable[[Pool, SelectionConfig, Progress], Choice]] = {
    "tilehawk": tilehawk,
    "random": random,
    "k-center": k_center,
    "typiclust": typiclust,
    "prob-cover": prob_cover,
    "entropy-mean": entropy_mean,
    "ppal": ppal,
}


def _missing(strategy: str, what: str) -> BadInput:
    return BadInput(
        f"the strategy {strategy} without {what}",
        expected="predictions on all train tiles",
        remedy="Run `tilehawk predict --split train` first, or rank with --strategy random",
    )


def _directions(pool: Pool, strategy: str) -> Directions:
    if pool.directions is None:
        raise _missing(strategy, "embeddings of the tiles")
    return pool.directions


def _in_order(order: Integers, pool: Pool, config: SelectionConfig, progress: Progress) -> Picks:
    """The head of ``order`` that the budget pays for; the same ground again comes last."""
    values = 1 - np.arange(len(order)) / max(len(order), 1)
    picks = lazy_greedy(
        Modular(values),
        pool.costs.seconds[order],
        config.budget_seconds,
        per_cost=False,
        deferred=pool.deferred[order],
        rivals=[same_ground(pool.scene_ids[order], pool.windows_scene[order], config.overlap_share)],
        progress=progress,
    )
    return _of_pool(picks, order)


def _of_pool(picks: Picks, rows: Integers) -> Picks:
    return Picks(tuple(int(rows[index]) for index in picks.indices), picks.gains, picks.cost)


def _weights(pool: Pool, config: SelectionConfig) -> dict[str, float]:
    """How much doubt, balance and coverage have to say; nothing without embeddings and detections."""
    if pool.directions is None and pool.seen is None:
        return {}
    if pool.seen is None:
        return {"uncertainty": 0.0, "balance": 0.0, "coverage": 1.0}
    doubt = uncertainty_weight(pool.labelled_boxes, len(pool.class_names), config)
    if pool.directions is None:
        share = config.uncertainty_share
        return {"uncertainty": share, "balance": 1 - share, "coverage": 0.0}
    balance = config.balance_share * (1 - doubt)
    return {"uncertainty": doubt, "balance": balance, "coverage": 1 - doubt - balance}


def _balance(pool: Pool, seen: Seen, rows: Integers, config: SelectionConfig) -> ClassBalance:
    """What is hinted at counts too."""
    return ClassBalance(seen.hinted_counts[rows], seen.known_counts, class_weights(pool, seen, config))


def _rules(pool: Pool, rows: Integers, points: Floats | None, config: SelectionConfig) -> list[Rivals]:
    """What waits once a tile is chosen: the rest of its scene, longer than that empty tiles, and longest what it makes superfluous."""
    same = [same_ground(pool.scene_ids[rows], pool.windows_scene[rows], config.overlap_share)]
    if points is not None:
        same.append(near_duplicates(points, config.duplicate_similarity))
    return [*_quotas(pool, rows, config), joined(same)]


def _quotas(pool: Pool, rows: Integers, config: SelectionConfig) -> tuple[Quota, Quota]:
    """Those of scenes and of empty tiles: shares of the budget and of what waiting tiles will cost, which count as chosen."""
    seconds, waits = pool.costs.seconds[rows], pool.waiting.costs.seconds
    scenes, of_scene = np.unique(pool.waiting.scene_ids, return_inverse=True)
    spent = dict(zip(scenes.tolist(), np.bincount(of_scene, weights=waits, minlength=len(scenes)).tolist(), strict=True))
    empty = 0.0 if pool.seen is None else float(waits[pool.seen.waiting_counts < EMPTY_BELOW].sum())
    budget = config.budget_seconds + float(waits.sum())
    return (
        Quota(pool.scene_ids[rows], seconds, config.scene_share * budget, spent),
        Quota(np.where(_empty(pool, rows), 0, -1), seconds, config.empty_share * budget, {0: empty}),
    )


def _had_their_share(pool: Pool, rows: Integers, config: SelectionConfig) -> Integers:
    """The level (m,) of the tiles at ``rows`` (m,) before the first is chosen: some scene, or empty tiles, may have had their share."""
    of_scenes, of_empty = _quotas(pool, rows, config)
    return np.where(of_empty.waiting_first, TOO_MANY_EMPTY, of_scenes.waiting_first.astype(np.int64))


def _looks_known(points: Floats, known: Floats, config: SelectionConfig) -> NDArray[np.bool_]:
    """Mask (m,) of the tiles (directions (m, d)) that look the same as one that is labelled or waits."""
    if not len(known):
        return np.zeros(len(points), dtype=bool)
    return nearest(points, known)[0] >= config.duplicate_similarity


def _empty(pool: Pool, rows: Integers) -> NDArray[np.bool_]:
    """Mask (m,) of the tiles at ``rows`` (m,) on which a detector expects no object."""
    if pool.seen is None:
        return np.zeros(len(rows), dtype=bool)
    empty: NDArray[np.bool_] = pool.seen.counts[rows].sum(axis=1) < EMPTY_BELOW
    return empty


def _audit_slice(pool: Pool, config: SelectionConfig) -> Integers:
    """Rows drawn at random, every scene its share; none while no detector could be held against them.

    They are a number that costs ``audit_share`` of the budget on average, at least one where the budget pays for two tiles: what a drawn
    tile costs has no say, for dear tiles are those with many objects. Passed over is only what can never be beside the others: more than
    the budget pays for, ground that is labelled or drawn.
    """
    can = np.flatnonzero(~pool.deferred & (pool.costs.seconds <= config.budget_seconds))
    if pool.seen is None or not config.audit_share or not len(can):
        return np.zeros(0, dtype=np.int64)
    tiles_paid = config.budget_seconds / float(pool.costs.seconds[can].mean())
    wanted = max(round(config.audit_share * tiles_paid), int(tiles_paid >= 2))
    order = can[np.argsort(stratified(pool.scene_ids[can], np.random.default_rng([config.seed, 1])), kind="stable")]
    repeats = same_ground(pool.scene_ids, pool.windows_scene, config.overlap_share)
    drawn, spent, taken = list[int](), 0.0, np.zeros(len(pool), dtype=bool)
    for row in order.tolist():
        if len(drawn) == wanted:
            break
        if taken[row] or spent + pool.costs.seconds[row] > config.budget_seconds:
            continue
        drawn.append(row)
        spent += float(pool.costs.seconds[row])
        taken[repeats(row)] = True
    return np.asarray(drawn, dtype=np.int64)


def _references(pool: Pool, config: SelectionConfig) -> Floats:
    """Directions of the tiles that are to be stood for."""
    count = len(pool)
    if count <= config.reference_tiles:
        return pool.points(np.arange(count))
    drawn = np.random.default_rng([config.seed, 2]).choice(count, config.reference_tiles, replace=False)
    return pool.points(np.sort(drawn))
