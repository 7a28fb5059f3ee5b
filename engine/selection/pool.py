"""The tiles that can be chosen, with all that is known and expected of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import NothingToDo
from engine.selection.balance import class_confidence, expected_counts
from engine.selection.candidates import Candidates
from engine.selection.config import SelectionConfig
from engine.selection.cost import CostConfig, TileCosts, estimate_costs, prior_costs, with_more_missed
from engine.selection.coverage import Directions
from engine.selection.detections import Detections, keep_objects
from engine.selection.difficulty import class_difficulty, difficulty_weights
from engine.selection.ground import Ground
from engine.selection.uncertainty import tile_uncertainty

__all__ = ["Pool", "Seen", "Waiting", "make_pool", "stratified"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
FEWEST_COUNTED = 5


@dataclass(frozen=True, eq=False)
class Seen:
    """What a detector makes of the n tiles that can be chosen.

    ``uncertainty`` (n,) and ``weighed_uncertainty`` (n,), the same by the difficulty of the classes; ``counts`` (n, C) expected objects
    of each class; ``hinted_counts`` (n, C) the same over all that was detected, however weak: a class that is known by few is only ever
    hinted at; ``confidence`` (C,) in [0, 1], how sure the detector is of each class; ``number`` (n,) of objects seen; ``objects``: they
    themselves, by row of the pool; ``known_counts`` (C,) labelled, or hinted at on tiles that wait; ``waiting_counts`` (W,) objects
    expected on those.
    """

    uncertainty: Floats
    weighed_uncertainty: Floats
    counts: Floats
    hinted_counts: Floats
    confidence: Floats
    number: Integers
    objects: Detections
    known_counts: Floats
    waiting_counts: Floats


@dataclass(frozen=True, eq=False)
class Waiting:
    """W tiles that were chosen before and wait: ``scene_ids`` (W,), and the work that is expected on them."""

    scene_ids: Integers
    costs: TileCosts


@dataclass(frozen=True, eq=False)
class Pool:
    """n tiles that can be chosen, ordered by id.

    ``costs``: expected work; ``deferred`` (n,): mostly inside a tile that is labelled or waits; ``labelled_boxes``: how many the detector
    learned from; ``directions`` of all candidates, None without embeddings, of which ``rows`` (n,) are the pool's, ``known_rows`` those of
    tiles that are labelled or wait, and ``labelled_rows`` of the labelled ones.
    """

    tile_ids: Integers
    scene_ids: Integers
    windows_scene: Floats
    costs: TileCosts
    deferred: NDArray[np.bool_]
    seen: Seen | None
    query_entropy: Floats | None
    saturated: NDArray[np.bool_]
    directions: Directions | None
    rows: Integers
    known_rows: Integers
    labelled_rows: Integers
    labelled_ids: Integers
    waiting: Waiting
    labelled_boxes: int
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tile_ids)

    @property
    def known_points(self) -> Floats:
        """Directions (L, d) of the tiles that are labelled or wait."""
        assert self.directions is not None
        return self.directions.of(self.known_rows)

    @property
    def labelled_points(self) -> Floats:
        """Directions (M, d) of the labelled tiles."""
        assert self.directions is not None
        return self.directions.of(self.labelled_rows)

    def points(self, rows: Integers) -> Floats:
        """Directions (m, d) of the tiles at ``rows`` of the pool."""
        assert self.directions is not None
        return self.directions.of(self.rows[rows])


def make_pool(candidates: Candidates, config: SelectionConfig) -> Pool:
    """What can be chosen of ``candidates``, which are ordered by id.

    Raises:
        NothingToDo: no tile is left.
    """
    chosen = np.flatnonzero(candidates.selectable)
    if not len(chosen):
        raise NothingToDo(
            "no tile is left to rank: every train tile is reviewed, or there is none", remedy="Run `tilehawk ingest` on more imagery"
        )
    known_rows = np.flatnonzero((candidates.labelled | candidates.chosen_before) & candidates.has_embedding)
    labelled_rows = known_rows[candidates.labelled[known_rows]]
    waiting = np.flatnonzero(candidates.chosen_before)
    costs, seen = _expected(candidates, chosen, config)
    every = np.sort(np.concatenate([chosen, known_rows]))
    saturated = np.zeros(len(candidates), dtype=bool) if candidates.saturated is None else candidates.saturated
    return Pool(
        tile_ids=candidates.tile_ids[chosen],
        scene_ids=candidates.scene_ids[chosen],
        windows_scene=candidates.windows_scene[chosen],
        costs=costs.take(chosen),
        deferred=_inside_known(candidates, chosen, config.overlap_share),
        seen=seen,
        query_entropy=None if candidates.query_entropy is None else candidates.query_entropy[chosen],
        saturated=saturated[chosen],
        directions=None if candidates.embeddings is None else Directions(candidates.embeddings, every),
        rows=chosen,
        known_rows=known_rows,
        labelled_rows=labelled_rows,
        labelled_ids=candidates.tile_ids[labelled_rows],
        waiting=Waiting(candidates.scene_ids[waiting], costs.take(waiting)),
        labelled_boxes=len(candidates.labelled_objects),
        class_names=candidates.class_names,
    )


def stratified(scene_ids: Integers, generator: np.random.Generator) -> Floats:
    """A random place (N,) in [0, 1) for each tile, spread evenly within each scene: any head of the order holds every scene's share."""
    order = np.lexsort((generator.random(len(scene_ids)), scene_ids))
    _, first, count = np.unique(scene_ids[order], return_index=True, return_counts=True)
    within = np.arange(len(order)) - np.repeat(first, count)
    place = np.empty(len(order))
    place[order] = (within + generator.random(len(order))) / np.repeat(count, count)
    return place


def _expected(candidates: Candidates, chosen: Integers, config: SelectionConfig) -> tuple[TileCosts, Seen | None]:
    """The work that is expected on each candidate, and what a detector makes of those at the rows ``chosen`` (n,)."""
    if candidates.detections is None:
        return prior_costs(len(candidates), config.prices, _counted(candidates, config.cost)), None
    tiles = len(candidates)
    kept = keep_objects(candidates.detections, config.objects)
    estimated = estimate_costs(kept.tile_index, kept.scores, tiles, config.prices, config.cost)
    costs = with_more_missed(estimated, _shortfall(estimated, candidates), config.prices)
    known = candidates.labelled_objects
    weights = difficulty_weights(class_difficulty(kept, known, config.difficulty), config.difficulty)
    place = np.full(tiles, -1)
    place[chosen] = np.arange(len(chosen))
    own = kept.take(place[kept.tile_index] >= 0)
    own = Detections(place[own.tile_index], own.xyxy, own.class_scores, own.drift, own.features)
    everything = candidates.detections
    counts, hinted = expected_counts(kept, tiles), expected_counts(everything, tiles)
    labelled = np.bincount(known.labels, minlength=kept.classes).astype(np.float64)
    seen = Seen(
        uncertainty=tile_uncertainty(own, len(chosen), config.uncertainty),
        weighed_uncertainty=tile_uncertainty(own, len(chosen), config.uncertainty, weights),
        counts=counts[chosen],
        hinted_counts=hinted[chosen],
        confidence=class_confidence(everything, place[everything.tile_index] >= 0),
        number=np.bincount(own.tile_index, minlength=len(chosen)),
        objects=own,
        known_counts=labelled + hinted[candidates.chosen_before].sum(axis=0),
        waiting_counts=counts[candidates.chosen_before].sum(axis=1),
    )
    return costs, seen


def _counted(candidates: Candidates, priors: CostConfig) -> CostConfig:
    """The priors, with as many objects expected on a tile as labelled tiles hold on average, once there are five of those."""
    tiles = int(candidates.labelled.sum())
    if candidates.known is None or tiles < FEWEST_COUNTED:
        return priors
    return priors.model_copy(update={"expected_objects": round(len(candidates.labelled_objects) / tiles, 6)})


def _shortfall(estimated: TileCosts, candidates: Candidates) -> float:
    """How many objects a labelled tile holds beyond those that the detector led us to expect there, on average; never below 0."""
    counted = np.flatnonzero(candidates.labelled & candidates.has_embedding)
    if candidates.known is None or not len(counted):
        return 0.0
    number = np.bincount(candidates.known.tile_index, minlength=len(candidates))
    beyond = float((number[counted] - estimated.objects[counted]).mean())
    return round(max(beyond, 0.0), 6)


def _inside_known(candidates: Candidates, chosen: Integers, share: float) -> NDArray[np.bool_]:
    """Mask (n,) of the tiles at ``chosen`` (n,) of which more than ``share`` lies in one that is labelled or waits."""
    inside = np.zeros(len(chosen), dtype=bool)
    ground = Ground(candidates.scene_ids[chosen], candidates.windows_scene[chosen])
    known = candidates.labelled | candidates.chosen_before
    for scene, window in zip(candidates.scene_ids[known].tolist(), candidates.windows_scene[known], strict=True):
        inside[ground.within(scene, window, share)] = True
    return inside
