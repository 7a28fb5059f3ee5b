"""What the newest detector says of a tile, for the person who annotates it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from engine.boxes import Boxes
from engine.catalog.annotations import label_set
from engine.catalog.predictions import predictions_directory
from engine.catalog.schema import LabelSetRow, ModelRow, PredictionSet
from engine.catalog.workspace import Workspace
from engine.inference.predictions import Predictions

__all__ = ["suggested_boxes", "suggested_on"]

SETS_KEPT, SETS_KNOWN = 4, 64


def suggested_boxes(workspace: Workspace, tile_id: int, score_threshold: float) -> Boxes:
    """The boxes that the newest prediction set of a fine-tuned model holds of this tile, from ``score_threshold`` up, in tile pixels.

    Nothing where no such set holds the tile, or where it speaks of other classes than the workspace.
    """
    return suggested_on(workspace, [tile_id], score_threshold).get(tile_id, Boxes.empty(scored=True))


def suggested_on(workspace: Workspace, tile_ids: Sequence[int], score_threshold: float) -> dict[int, Boxes]:
    """By tile id, what :func:`suggested_boxes` gives of it, each of the newest set that holds it; tiles in no set are left out."""
    with workspace.session(write=False) as session:
        if session.get(LabelSetRow, 1) is None:
            return {}
        fingerprint = label_set(session).fingerprint
        query = (
            select(PredictionSet)
            .join(ModelRow, ModelRow.id == PredictionSet.model_id)
            .where(ModelRow.stage == "finetune", ModelRow.label_set_fingerprint == fingerprint)
            .order_by(PredictionSet.created.desc(), PredictionSet.id.desc())
        )
        known = [(predictions_directory(workspace, row.name), row.created) for row in session.scalars(query)]
    found: dict[int, Boxes] = {}
    missing = np.asarray(tile_ids, dtype=np.int64)
    for directory, created in known:
        held = np.intersect1d(missing, _tile_ids(directory, created))
        if len(held):
            predictions = _loaded(directory, created)
            found |= {tile_id: _from(predictions.of_tile(tile_id), score_threshold) for tile_id in held.tolist()}
            missing = np.setdiff1d(missing, held)
        if not len(missing):
            break
    return found


def _from(boxes: Boxes, score_threshold: float) -> Boxes:
    assert boxes.scores is not None
    return boxes.take(boxes.scores >= score_threshold)


@lru_cache(maxsize=SETS_KEPT)
def _loaded(directory: Path, _created: float) -> Predictions:
    """A set as it was made at that time: a set that was made anew under its name is read anew."""
    return Predictions.load(directory)


@lru_cache(maxsize=SETS_KNOWN)
def _tile_ids(directory: Path, created: float) -> NDArray[np.int64]:
    """The tiles that a set holds; remembered for more sets than are kept, so that a tile in none costs no reading."""
    return _loaded(directory, created).tile_ids
