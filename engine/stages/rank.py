"""``rank``: the next round, as the tiles that its budget in seconds pays for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import tile_boxes
from engine.catalog.costs import BatchCost, batch_cost, cost_model, keep_cost
from engine.catalog.predictions import get_prediction_set, prediction_sets, predictions_directory
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import LabelSetRow, ModelRow, PredictionSet
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, UsageError
from engine.inference.predictions import Predictions
from engine.progress import Progress, silent
from engine.selection.candidates import Candidates
from engine.selection.config import SelectionConfig
from engine.selection.cost_fit import CostFitConfig
from engine.selection.cost_model import CostModel
from engine.selection.cost_spread import tile_quantiles
from engine.selection.detections import Detections, KnownObjects
from engine.selection.rank import Ranking
from engine.selection.rank import rank as choose

__all__ = ["RankConfig", "RankReport", "RankedWindow", "SpendingConfig", "rank"]


class SpendingConfig(SelectionConfig):
    """How tiles are chosen, what they may cost in money, and how their cost is learned."""

    budget_money: float | None = None
    """What the batch may be expected to cost in money, in place of ``budget_seconds``; above 0."""
    hourly_rate: float = Field(default=30.0, gt=0)
    """What an annotator's hour costs."""
    currency: str = "€"
    """What money is counted in."""
    fit: CostFitConfig = CostFitConfig()
    """How prices are learned from measured visits; ``prices`` are the priors."""

    @property
    def seconds(self) -> float:
        """The budget in seconds.

        Raises:
            UsageError: it is given in seconds and in money.
        """
        if self.budget_money is None:
            return self.budget_seconds
        if "budget_seconds" in self.model_fields_set:
            raise UsageError(
                f"budget_seconds = {self.budget_seconds:g} and budget_money = {self.budget_money:g}",
                expected="one of them",
                remedy="Leave one of them out",
            )
        return self.budget_money / self.hourly_rate * 3600


class RankConfig(SpendingConfig):
    """Which predictions the next round is chosen by; the rest is said by the selection itself."""

    predictions: str | None = None
    """Name of a prediction set that covers all train tiles still to label; none for the newest one that does."""


@dataclass(frozen=True)
class RankedWindow:
    """A chosen tile for people: where it lies in its scene (pixels), and why it was chosen."""

    tile_id: int
    scene: str
    x: int
    y: int
    width: int
    height: int
    score: float
    estimated_seconds: float
    why: str
    reasons: dict[str, Any]


@dataclass(frozen=True)
class RankReport:
    """A round as it was chosen; ``predictions`` is None where no model had seen the tiles yet.

    ``estimated_seconds`` are those expected on average; ``cost`` says what else is known of them.
    """

    round: int
    strategy: str
    budget_seconds: float
    estimated_seconds: float
    predictions: str | None
    cost: BatchCost
    tiles: tuple[RankedWindow, ...]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A prediction set, and whether it comes from a detector that knows the classes."""

    row: PredictionSet
    predictions: Predictions
    detector: bool


def rank(workspace: Workspace, config: RankConfig, *, progress: Progress = silent) -> RankReport:
    """Choose the tiles of the next round and write it, tiles and reasons together or not at all.

    The choice is made from predictions, embeddings and accepted labels alone; withheld labels are never read.

    Raises:
        UsageError: a budget in seconds and one in money.
        BadInput: a budget of 0 or below, unknown predictions, or predictions that lack tiles.
        NothingToDo: no tile is left, or the budget does not pay for the cheapest.
    """
    budget = config.seconds
    with workspace.worker_lock("rank"):
        with workspace.session(write=False) as session:
            train, reviewed = tiles(session, split="train"), {tile.id for tile in tiles(session, split="train", reviewed=True)}
            seen = _seen(workspace, session, [tile.id for tile in train if tile.id not in reviewed], config.predictions)
            labelled = tile_boxes(session, [tile for tile in train if tile.id in reviewed])
            names = session.get(LabelSetRow, 1)
            model = cost_model(session, config.prices, config.fit, detector=seen is not None and seen.detector)
        candidates = _candidates(
            train,
            reviewed,
            seen,
            labelled=labelled,
            class_names=tuple(names.names) if names else ("object",),
        )
        priced = config.model_copy(update={"prices": model.prices, "budget_seconds": budget})
        ranking = _with_quantiles(choose(candidates, priced, progress=progress), model)
        expected = [tile.estimated_seconds for tile in ranking.tiles]
        cost = batch_cost(expected, model, hourly_rate=config.hourly_rate, currency=config.currency)
        with workspace.session() as session:
            number = _write(session, ranking, config, seen, budget, cost)
    return _report(number, ranking, config, seen, train, budget, cost)


def _seen(workspace: Workspace, session: Session, open_ids: Sequence[int], name: str | None) -> _Seen | None:
    """The predictions to rank by: those named, or the newest that cover every open tile, or none."""
    wanted = np.asarray(open_ids, dtype=np.int64)
    rows = [get_prediction_set(session, name)] if name else [row for row in reversed(prediction_sets(session)) if row.tiles >= len(wanted)]
    for row in rows:
        predictions = Predictions.load(predictions_directory(workspace, row.name))
        if predictions.covers(wanted):
            return _Seen(row, predictions, session.get_one(ModelRow, row.model_id).stage == "finetune")
        if name:
            missing = wanted[~np.isin(wanted, predictions.tile_ids)]
            raise BadInput(
                f"the predictions {name!r} lack {len(missing)} of {len(wanted)} train tiles, the first being tile {int(missing[0])}",
                expected="predictions on all train tiles still to label",
                remedy="Run `tilehawk predict --split train`",
            )
    return None


def _candidates(
    train: Sequence[TileRecord], reviewed: set[int], seen: _Seen | None, *, labelled: dict[int, Boxes], class_names: tuple[str, ...]
) -> Candidates:
    tile_ids = np.asarray([tile.id for tile in train], dtype=np.int64)
    embeddings = embedded = detections = query_entropy = saturated = None
    if seen is not None:
        found = seen.predictions
        embedded = np.isin(tile_ids, found.tile_ids)
        embeddings = np.zeros((len(tile_ids), found.embeddings.shape[1]), dtype=np.float32)
        embeddings[embedded] = found.embeddings[np.searchsorted(found.tile_ids, tile_ids[embedded])]
        if seen.detector:
            on_train = np.isin(found.tile_ids[found.tile_index], tile_ids)
            rows = np.searchsorted(tile_ids, found.tile_ids[found.tile_index[on_train]])
            boxes, scores, drift = (column[on_train].astype(np.float64) for column in (found.boxes_tile, found.class_scores, found.drift))
            detections = Detections(rows, boxes, scores, drift, _features(found, on_train))
            query_entropy, saturated = (
                None if column is None else _spread(column, found.tile_ids, tile_ids) for column in (found.query_entropy, found.saturated)
            )
    return Candidates(
        tile_ids=tile_ids,
        scene_ids=np.asarray([tile.scene_id for tile in train], dtype=np.int64),
        windows_scene=np.asarray([tile.window.xyxy for tile in train], dtype=np.float64),
        splits=np.asarray([tile.split for tile in train], dtype=np.str_),
        reviewed=np.asarray([tile.id in reviewed for tile in train], dtype=bool),
        embeddings=embeddings,
        embedded=embedded,
        detections=detections,
        query_entropy=query_entropy,
        saturated=saturated,
        known=_known(tile_ids, labelled),
        class_names=class_names,
    )


def _spread(column: NDArray[Any], of_ids: NDArray[np.int64], tile_ids: NDArray[np.int64]) -> NDArray[Any]:
    """``column`` by tile of ``of_ids`` as one by tile of ``tile_ids``, 0 where there is none."""
    held = np.isin(tile_ids, of_ids)
    spread = np.zeros(len(tile_ids), dtype=column.dtype)
    spread[held] = column[np.searchsorted(of_ids, tile_ids[held])]
    return spread


def _features(found: Predictions, rows: NDArray[np.bool_]) -> NDArray[np.float16] | None:
    """The features of the detections at ``rows``, zeros for those that are too weak to have any."""
    if found.features is None:
        return None
    described = np.flatnonzero(found.described)
    features = np.zeros((len(found.scores), found.features.shape[1]), dtype=np.float16)
    features[described] = found.features
    return features[rows]


def _known(tile_ids: NDArray[np.int64], labelled: dict[int, Boxes]) -> KnownObjects:
    """The objects of the labelled tiles, in the pixels of their tiles."""
    boxes = list(labelled.values())
    rows = np.searchsorted(tile_ids, np.repeat(np.asarray(list(labelled), dtype=np.int64), [len(each) for each in boxes]))
    none = KnownObjects.nothing()
    xyxy = np.concatenate([none.xyxy, *(each.xyxy for each in boxes)])
    return KnownObjects(rows, xyxy, np.concatenate([none.labels, *(each.labels for each in boxes)]))


def _with_quantiles(ranking: Ranking, model: CostModel) -> Ranking:
    """P50 and P90 of each tile beside the reasons for it."""
    quantiles = tile_quantiles(np.asarray([tile.estimated_seconds for tile in ranking.tiles]), model.spread)
    tiles_known = [
        replace(tile, reasons={**tile.reasons, "seconds": {"p50": round(p50, 1), "p90": round(p90, 1)}})
        for tile, p50, p90 in zip(ranking.tiles, *(each.tolist() for each in quantiles), strict=True)
    ]
    return replace(ranking, tiles=tuple(tiles_known))


def _write(session: Session, ranking: Ranking, config: RankConfig, seen: _Seen | None, budget: float, cost: BatchCost) -> int:
    row = add_round(
        session,
        budget_seconds=budget,
        strategy=config.strategy,
        seed=config.seed,
        chosen=[ChosenTile(tile.tile_id, tile.score, tile.estimated_seconds, {**tile.reasons, "why": tile.why}) for tile in ranking.tiles],
        prediction_set_id=None if seen is None else seen.row.id,
    )
    keep_cost(row, cost)
    ledger.record(
        session,
        "rank",
        round=row.number,
        tiles=len(ranking.tiles),
        estimated_seconds=ranking.estimated_seconds,
        predictions=None if seen is None else seen.row.name,
        config=config.model_dump(mode="json"),
    )
    return row.number


def _report(
    number: int, ranking: Ranking, config: RankConfig, seen: _Seen | None, train: Sequence[TileRecord], budget: float, cost: BatchCost
) -> RankReport:
    record_of = {tile.id: tile for tile in train}
    return RankReport(
        round=number,
        strategy=config.strategy,
        budget_seconds=budget,
        estimated_seconds=ranking.estimated_seconds,
        predictions=None if seen is None else seen.row.name,
        cost=cost,
        tiles=tuple(
            RankedWindow(
                tile_id=tile.tile_id,
                scene=record_of[tile.tile_id].scene_name,
                x=record_of[tile.tile_id].window.x,
                y=record_of[tile.tile_id].window.y,
                width=record_of[tile.tile_id].window.width,
                height=record_of[tile.tile_id].window.height,
                score=tile.score,
                estimated_seconds=tile.estimated_seconds,
                why=tile.why,
                reasons=tile.reasons,
            )
            for tile in ranking.tiles
        ),
    )
