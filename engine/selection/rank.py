"""The tiles that are worth an annotator's next minutes, in order, with the reason for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo
from engine.progress import Progress, silent
from engine.selection.candidates import Candidates, overlapping
from engine.selection.cost import CostConfig, Prices, TileCosts, estimate_costs, prior_costs, with_more_missed
from engine.selection.coverage import FacilityLocation, KCenter, directions, far_tails, nearest
from engine.selection.greedy import Modular, Objective, Picks, best_of_both, lazy_greedy
from engine.selection.reasons import explain
from engine.selection.uncertainty import UncertaintyConfig, keep_objects, tile_uncertainty

__all__ = ["RankedTile", "Ranking", "SelectionConfig", "Strategy", "rank", "uncertainty_weight"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Strategy = Literal["tilehawk", "entropy", "k-center", "random"]


class SelectionConfig(StageConfig):
    """How a batch of tiles is chosen under a budget."""

    budget_seconds: float = 1800.0
    """Seconds of annotation that the batch may be expected to cost; above 0."""
    strategy: Strategy = "tilehawk"
    """tilehawk: coverage first, then uncertainty, per second; entropy: uncertainty alone; k-center: coverage alone; random: the control."""
    seed: int = Field(default=0, ge=0)
    """Decides the random strategy, and the reference tiles where there are more than ``reference_tiles``."""
    prices: Prices = Prices()
    """Seconds for each act of an annotator."""
    cost: CostConfig = CostConfig()
    """How predictions turn into expected work."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    """Which queries count as objects, and how their doubts add up."""
    uncertainty_share: float = Field(default=0.7, ge=0, le=1)
    """λ_u once the detector has enough labels; coverage weighs the rest."""
    coverage_boxes_per_class: float = Field(default=20.0, ge=0)
    """Up to this many labelled boxes a class the detector's doubts mean little, and coverage alone decides."""
    full_boxes_per_class: float = Field(default=100.0, gt=0)
    """From this many labelled boxes a class uncertainty has its whole share; in between the share grows in proportion."""
    reference_tiles: int = Field(default=2000, ge=1)
    """Coverage is measured over at most this many tiles, drawn at random."""
    tail_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the tiles farthest from the mean embedding that k-center leaves for last."""
    overlap_share: float = Field(default=0.5, ge=0, le=1)
    """A tile of which more than this lies in a chosen or labelled one is left for last: its objects would be paid for twice."""


@dataclass(frozen=True)
class RankedTile:
    """One chosen tile: its score on the strategy's own scale, its expected seconds, the numbers behind it and one sentence."""

    tile_id: int
    score: float
    estimated_seconds: float
    reasons: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Ranking:
    """The chosen tiles in order, what all are expected to cost, and how much uncertainty (λ_u) and coverage (λ_d) decided."""

    tiles: tuple[RankedTile, ...]
    estimated_seconds: float
    strategy: Strategy
    uncertainty_weight: float
    coverage_weight: float


@dataclass(frozen=True, eq=False)
class _Pool:
    """The tiles that can be chosen, ordered by id, with all that is known about each."""

    tile_ids: Integers
    scene_ids: Integers
    windows_scene: Floats
    costs: TileCosts
    uncertainty: Floats | None
    objects: Integers | None
    embeddings: Floats | None
    points: Floats | None
    known_points: Floats
    known_ids: Integers
    deferred: NDArray[np.bool_]


class _Joined:
    """f = λ_u·Σ uncertainty + λ_d·coverage, each on a scale from 0 to 1 for the first choice."""

    def __init__(self, uncertainty: Floats, coverage: Objective, uncertainty_weight: float, coverage_weight: float) -> None:
        self._first = coverage.gains()
        largest = float(self._first.max(initial=0.0))
        self._uncertainty = uncertainty_weight * uncertainty
        self._coverage = coverage
        self._scale = coverage_weight / largest if largest > 0 else 0.0

    def gains(self) -> Floats:
        return self._uncertainty + self._first * self._scale

    def gain(self, index: int) -> float:
        return float(self._uncertainty[index] + self._coverage.gain(index) * self._scale)

    def add(self, index: int) -> None:
        self._coverage.add(index)


def uncertainty_weight(labelled_boxes: int, classes: int, config: SelectionConfig) -> float:
    """λ_u in [0, uncertainty_share]: none until there are labels to trust, then in proportion to the labels a class."""
    start, full = config.coverage_boxes_per_class, config.full_boxes_per_class
    per_class = labelled_boxes / max(classes, 1)
    if per_class >= full:
        return config.uncertainty_share
    return config.uncertainty_share * max(per_class - start, 0.0) / max(full - start, 1e-9)


def rank(candidates: Candidates, config: SelectionConfig, *, progress: Progress = silent) -> Ranking:
    """Choose tiles whose expected seconds fit into the budget; the same tiles, config and seed give the same ranking in any input order.

    Raises:
        BadInput: a budget of 0 or below; a strategy that needs embeddings or detections that are not there.
        NothingToDo: no tile is left to choose, or the budget does not pay for the cheapest.
    """
    if not config.budget_seconds > 0:
        raise BadInput(
            f"a budget of {config.budget_seconds:g} seconds",
            expected="more than 0",
            remedy="Give the seconds that annotators have for this round",
        )
    pool = _pool(candidates.by_id(), config)
    cheapest = float(pool.costs.seconds.min())
    if config.budget_seconds < cheapest:
        raise NothingToDo(
            f"a budget of {config.budget_seconds:g} seconds pays for no tile: the cheapest is expected to cost {cheapest:.1f} seconds",
            remedy=f"Give at least {int(np.ceil(cheapest))} seconds",
        )
    wanted = uncertainty_weight(candidates.labelled_boxes, candidates.classes, config)
    weight_u, weight_d = _weights(pool, wanted, config.strategy)
    picks = _choose(pool, weight_u, weight_d, config, progress)
    return Ranking(tuple(_described(pool, picks, weight_u, weight_d)), picks.cost, config.strategy, weight_u, weight_d)


def _shortfall(estimated: TileCosts, candidates: Candidates) -> float:
    """How many objects a labelled tile holds beyond those that the detector led us to expect there, on average; never below 0."""
    counted = np.flatnonzero(candidates.labelled & candidates.has_embedding)
    if candidates.object_counts is None or not len(counted):
        return 0.0
    beyond = float((candidates.object_counts[counted] - estimated.objects[counted]).mean())
    return round(max(beyond, 0.0), 6)


def _pool(candidates: Candidates, config: SelectionConfig) -> _Pool:
    chosen = np.flatnonzero(candidates.selectable)
    if not len(chosen):
        raise NothingToDo(
            "no tile is left to rank: every train tile is reviewed, or there is none", remedy="Run `tilehawk ingest` on more imagery"
        )
    known = np.flatnonzero(candidates.labelled & candidates.has_embedding)
    uncertainty = objects = embeddings = points = None
    known_points: Floats = np.zeros((0, 0))
    if candidates.detections is None:
        costs = prior_costs(len(chosen), config.prices, config.cost)
    else:
        kept = keep_objects(candidates.detections, config.uncertainty)
        estimated = estimate_costs(kept.tile_index, kept.scores, len(candidates), config.prices, config.cost)
        costs = with_more_missed(estimated.take(chosen), _shortfall(estimated, candidates), config.prices)
        uncertainty = tile_uncertainty(kept, len(candidates), config.uncertainty)[chosen]
        objects = np.bincount(kept.tile_index, minlength=len(candidates))[chosen]
    if candidates.embeddings is not None:
        unit = directions(candidates.embeddings[np.concatenate([chosen, known])])
        embeddings = np.asarray(candidates.embeddings[chosen], dtype=np.float64)
        points, known_points = unit[: len(chosen)], unit[len(chosen) :]
    return _Pool(
        tile_ids=candidates.tile_ids[chosen],
        scene_ids=candidates.scene_ids[chosen],
        windows_scene=candidates.windows_scene[chosen],
        costs=costs,
        uncertainty=uncertainty,
        objects=objects,
        embeddings=embeddings,
        points=points,
        known_points=known_points,
        known_ids=candidates.tile_ids[known],
        deferred=_inside_labelled(candidates, chosen, config.overlap_share),
    )


def _inside_labelled(candidates: Candidates, chosen: Integers, share: float) -> NDArray[np.bool_]:
    inside = np.zeros(len(candidates), dtype=bool)
    for scene in np.unique(candidates.scene_ids[candidates.labelled]):
        rows = np.flatnonzero(candidates.scene_ids == scene)
        for window in candidates.windows_scene[rows[candidates.labelled[rows]]]:
            inside[rows] |= overlapping(candidates.windows_scene[rows], window, share)
    return inside[chosen]


def _weights(pool: _Pool, wanted: float, strategy: Strategy) -> tuple[float, float]:
    """(λ_u, λ_d) of the strategy; tilehawk uses what there is, the others refuse where their ground is missing."""
    if strategy == "random":
        return 0.0, 0.0
    remedy = "Run `tilehawk predict --split train` first, or rank with --strategy random"
    if strategy == "entropy":
        if pool.uncertainty is None:
            raise BadInput("the strategy entropy without predictions of a fine-tuned detector", remedy=remedy)
        return 1.0, 0.0
    if strategy == "k-center":
        if pool.points is None:
            raise BadInput("the strategy k-center without embeddings of the tiles", remedy=remedy)
        return 0.0, 1.0
    if pool.points is None:
        return (0.0, 0.0) if pool.uncertainty is None else (1.0, 0.0)
    weight = 0.0 if pool.uncertainty is None else wanted
    return weight, 1.0 - weight


def _choose(pool: _Pool, weight_u: float, weight_d: float, config: SelectionConfig, progress: Progress) -> Picks:
    seconds, budget, rivals = pool.costs.seconds, config.budget_seconds, _rivals(pool, config.overlap_share)
    generator = np.random.default_rng(config.seed)
    if weight_u == weight_d == 0:
        order = Modular(1 - _stratified(pool.scene_ids, generator))
        return lazy_greedy(order, seconds, budget, per_cost=False, deferred=pool.deferred, rivals=rivals, progress=progress)
    if config.strategy == "k-center":
        assert pool.points is not None
        assert pool.embeddings is not None
        centers = KCenter(pool.points, pool.known_points, pool.embeddings)
        last = pool.deferred | far_tails(pool.embeddings, config.tail_share)
        return lazy_greedy(centers, seconds, budget, per_cost=False, deferred=last, rivals=rivals, progress=progress)
    if config.strategy == "entropy":
        assert pool.uncertainty is not None
        values = pool.uncertainty
        return best_of_both(lambda: Modular(values), seconds, budget, deferred=pool.deferred, rivals=rivals, progress=progress)
    scaled = np.zeros(len(seconds)) if pool.uncertainty is None else _rank_scale(pool.uncertainty)

    def joined() -> Objective:
        if pool.points is None:
            return Modular(scaled)
        sample = np.random.default_rng(config.seed)
        return _Joined(scaled, FacilityLocation(pool.points, pool.known_points, config.reference_tiles, sample), weight_u, weight_d)

    return best_of_both(joined, seconds, budget, deferred=pool.deferred, rivals=rivals, progress=progress)


def _rivals(pool: _Pool, share: float) -> Callable[[int], Integers]:
    order = np.argsort(pool.scene_ids, kind="stable")
    sorted_scenes = pool.scene_ids[order]

    def rivals(index: int) -> Integers:
        first, end = np.searchsorted(sorted_scenes, [pool.scene_ids[index], pool.scene_ids[index] + 1])
        rows = order[first:end]
        found = rows[overlapping(pool.windows_scene[rows], pool.windows_scene[index], share)]
        others: Integers = found[found != index]
        return others

    return rivals


def _stratified(scene_ids: Integers, generator: np.random.Generator) -> Floats:
    """A random place (N,) in [0, 1) for each tile, spread evenly within each scene: any head of the order holds every scene's share."""
    place = np.empty(len(scene_ids))
    for scene in np.unique(scene_ids):
        rows = np.flatnonzero(scene_ids == scene)
        place[generator.permutation(rows)] = (np.arange(len(rows)) + generator.random(len(rows))) / len(rows)
    return place


def _rank_scale(values: Floats) -> Floats:
    """Ranks (N,) in (0, 1], equal values sharing their mean rank; a value of 0 stays 0."""
    _, level, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    return np.where(values > 0, mean_rank[level] / max(len(values), 1), 0.0)


def _described(pool: _Pool, picks: Picks, weight_u: float, weight_d: float) -> list[RankedTile]:
    rows = np.asarray(picks.indices, dtype=np.int64)
    similarity, nearest_id = _nearest_labelled(pool, rows)
    described = []
    for place, (row, gain) in enumerate(zip(rows, picks.gains, strict=True)):
        cost = pool.costs.take(np.array([row]))
        reasons: dict[str, Any] = {
            "uncertainty_weight": weight_u,
            "coverage_weight": weight_d,
            "scene": int(pool.scene_ids[row]),
            "uncertainty": None if pool.uncertainty is None else round(float(pool.uncertainty[row]), 4),
            "objects_seen": None if pool.objects is None else int(pool.objects[row]),
            "novelty": None if similarity is None else round(1 - float(similarity[place]), 4),
            "nearest_labelled_tile": None if nearest_id is None else int(nearest_id[place]),
            "overlaps_labelled": bool(pool.deferred[row]),
            "expected_boxes": {
                "sure": round(float(cost.sure[0]), 2),
                "medium": round(float(cost.medium[0]), 2),
                "missed": round(float(cost.missed[0]), 2),
            },
        }
        seconds = float(cost.seconds[0])
        described.append(RankedTile(int(pool.tile_ids[row]), float(gain), seconds, reasons, explain(reasons, seconds)))
    return described


def _nearest_labelled(pool: _Pool, rows: Integers) -> tuple[Floats | None, Integers | None]:
    if pool.points is None:
        return None, None
    if not len(pool.known_ids):
        return np.zeros(len(rows)), None
    similarity, row = nearest(pool.points[rows], pool.known_points)
    return similarity, pool.known_ids[row]
