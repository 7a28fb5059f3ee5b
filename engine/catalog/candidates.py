"""What the workspace lets a ranking know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from engine.catalog.annotations import tile_boxes
from engine.catalog.models import models
from engine.catalog.predictions import get_prediction_set, prediction_sets, predictions_directory
from engine.catalog.schema import LabelSetRow, ModelRow, PredictionSet
from engine.catalog.tiles import TileRecord
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.inference.predictions import Predictions
from engine.selection.candidates import Candidates, overlapping
from engine.selection.detections import Detections, KnownObjects, ObjectConfig, keep_objects

__all__ = ["RankingPredictions", "expected_objects", "ranking_candidates", "ranking_predictions", "waiting_ground", "why_cold"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankingPredictions:
    """A prediction set, and whether it comes from a detector that knows the classes."""

    row: PredictionSet
    predictions: Predictions
    detector: bool


def ranking_predictions(
    workspace: Workspace, session: Session, open_ids: Sequence[int], name: str | None, *, detector: bool = False
) -> RankingPredictions | None:
    """The predictions to rank by: those named, or the newest that cover every open tile, or none.

    Args:
        workspace: where they lie.
        session: an open transaction.
        open_ids: the tiles.
        name: of a prediction set; None for the newest.
        detector: where none is named, only those of a detector that knows the classes.

    Raises:
        BadInput: there are none of that name, or they lack tiles.
    """
    wanted = np.asarray(open_ids, dtype=np.int64)
    rows = [get_prediction_set(session, name)] if name else [row for row in reversed(prediction_sets(session)) if row.tiles >= len(wanted)]
    for row in rows:
        knows = session.get_one(ModelRow, row.model_id).stage == "finetune"
        if detector and not (knows or name):
            continue
        predictions = Predictions.load(predictions_directory(workspace, row.name))
        if predictions.covers(wanted):
            return RankingPredictions(row, predictions, knows)
        if name:
            missing = wanted[~np.isin(wanted, predictions.tile_ids)]
            raise BadInput(
                f"the predictions {name!r} lack {len(missing)} of {len(wanted)} train tiles, the first being tile {int(missing[0])}",
                expected="predictions on all train tiles still to label",
                remedy="Run `tilehawk predict --split train`",
            )
    return None


def why_cold(workspace: Workspace, session: Session, open_ids: Sequence[int], seen: RankingPredictions | None) -> str | None:
    """Why the newest detector has no say among the open tiles, and who has in its place; None where it has.

    Args:
        workspace: where predictions lie.
        session: an open transaction.
        open_ids: the tiles.
        seen: what is ranked by, from :func:`ranking_predictions`.
    """
    detectors = models(session, stage="finetune")
    if detectors and seen is not None and seen.row.model_id == detectors[-1].id:
        return None
    why = _unseen(workspace, session, open_ids, detectors[-1]) if detectors else "no detector has seen the tiles yet"
    if seen is None:
        return why
    return f"{why}, so {seen.row.name!r} of {'an older detector' if seen.detector else 'a model that knows no classes'} is used"


def _unseen(workspace: Workspace, session: Session, open_ids: Sequence[int], detector: ModelRow) -> str:
    """Which of the open tiles the detector has not looked at, by its newest predictions on any of them, and what to do."""
    wanted, remedy = np.asarray(open_ids, dtype=np.int64), "(run `tilehawk predict --split train`)"
    for row in reversed(prediction_sets(session, model_id=detector.id)):
        missing = int((~np.isin(wanted, Predictions.load(predictions_directory(workspace, row.name)).tile_ids)).sum())
        if missing < len(wanted):
            return f"the predictions {row.name!r} of the newest detector lack {missing} of {len(wanted)} tiles {remedy}"
    return f"the newest detector {detector.name!r} has not looked at the tiles {remedy}"


def ranking_candidates(
    session: Session,
    train: Sequence[TileRecord],
    reviewed: set[int],
    seen: RankingPredictions | None,
    waiting: AbstractSet[int] = frozenset(),
) -> Candidates:
    """The train tiles, in the order of their ids, with what was predicted on them and what people drew on those in ``reviewed``.

    Those in ``waiting`` count as chosen before.
    """
    tile_ids = np.asarray([tile.id for tile in train], dtype=np.int64)
    labelled = tile_boxes(session, [tile for tile in train if tile.id in reviewed])
    names = session.get(LabelSetRow, 1)
    return Candidates(
        tile_ids=tile_ids,
        scene_ids=np.asarray([tile.scene_id for tile in train], dtype=np.int64),
        windows_scene=np.asarray([tile.window.xyxy for tile in train], dtype=np.float64),
        splits=np.asarray([tile.split for tile in train], dtype=np.str_),
        reviewed=np.asarray([tile.id in reviewed for tile in train], dtype=bool),
        known=KnownObjects.of(np.searchsorted(tile_ids, list(labelled)), list(labelled.values())),
        class_names=tuple(names.names) if names else ("object",),
        waiting=np.asarray([tile.id in waiting for tile in train], dtype=bool),
        **_predicted(tile_ids, seen),
    )


def expected_objects(seen: RankingPredictions, tile_ids: Integers) -> Floats:
    """How many objects a detector expects on each of ``tile_ids`` (N,), rising, all of them predicted on: the sum of its scores."""
    detections: Detections = _predicted(tile_ids, seen)["detections"]
    kept = keep_objects(detections, ObjectConfig())
    return np.bincount(kept.tile_index, weights=kept.scores, minlength=len(tile_ids)).astype(np.float64)


def waiting_ground(unreviewed: Sequence[TileRecord], waiting: Mapping[int, Sequence[int]], share: float) -> set[int]:
    """The tiles not to be chosen while rounds are open: those that wait, and those of which more than ``share`` lies in one that does.

    Args:
        unreviewed: train tiles that nobody has looked at.
        waiting: ids of tiles by the number of their round, from :func:`engine.catalog.rounds.waiting_tiles`.
        share: of the area of a tile, in [0, 1].
    """
    waits = {tile_id for mine in waiting.values() for tile_id in mine}
    by_scene: dict[int, list[TileRecord]] = {tile.scene_id: [] for tile in unreviewed if tile.id in waits}
    for tile in unreviewed:
        if tile.scene_id in by_scene:
            by_scene[tile.scene_id].append(tile)
    found: set[int] = set()
    for mine in by_scene.values():
        asked = np.asarray([tile.id in waits for tile in mine])
        windows = np.asarray([tile.window.xyxy for tile in mine], dtype=np.float64)
        hidden = asked | _covered(windows, windows[asked], share)
        found |= {tile.id for tile, left_out in zip(mine, hidden.tolist(), strict=True) if left_out}
    return found


def _covered(windows: NDArray[np.float64], by: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Mask (N,) of the windows (N, 4) of one scene of which more than ``share`` lies in one of those in ``by`` (M, 4)."""
    order = np.argsort(windows[:, 0], kind="stable")
    ordered, widest = windows[order], float((windows[:, 2] - windows[:, 0]).max())
    covered = np.zeros(len(windows), dtype=bool)
    for window in by:
        near = slice(*np.searchsorted(ordered[:, 0], [window[0] - widest, window[2]]))
        covered[order[near]] |= overlapping(ordered[near], window, share)
    return covered


def _predicted(tile_ids: Integers, seen: RankingPredictions | None) -> dict[str, Any]:
    """Embeddings of the tiles and, from a detector, all that it says of them."""
    if seen is None:
        return {}
    found = seen.predictions
    embedded = np.isin(tile_ids, found.tile_ids)
    columns: dict[str, Any] = {"embedded": embedded, "embeddings": _by_tile(found.embeddings, found.tile_ids, tile_ids)}
    if not seen.detector:
        return columns
    on_train = np.isin(found.tile_ids[found.tile_index], tile_ids)
    boxes, scores, drift = (column[on_train].astype(np.float64) for column in (found.boxes_tile, found.class_scores, found.drift))
    features = found.object_features
    rows = np.searchsorted(tile_ids, found.tile_ids[found.tile_index[on_train]])
    columns["detections"] = Detections(rows, boxes, scores, drift, None if features is None else features[on_train])
    for name in ("query_entropy", "saturated"):
        column = getattr(found, name)
        columns[name] = None if column is None else _by_tile(column, found.tile_ids, tile_ids)
    return columns


def _by_tile(column: NDArray[Any], of_ids: Integers, tile_ids: Integers) -> NDArray[Any]:
    """``column`` by tile of ``of_ids`` as one by tile of ``tile_ids``, 0 where there is none."""
    held = np.isin(tile_ids, of_ids)
    spread = np.zeros((len(tile_ids), *column.shape[1:]), dtype=column.dtype)
    spread[held] = column[np.searchsorted(of_ids, tile_ids[held])]
    return spread
