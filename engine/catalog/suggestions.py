"""What the newest detector says of a tile, for the person who annotates it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sqlalchemy import select

from engine.boxes import Boxes
from engine.catalog.annotations import label_set
from engine.catalog.predictions import predictions_directory
from engine.catalog.schema import LabelSetRow, ModelRow, PredictionSet
from engine.catalog.workspace import Workspace
from engine.inference.predictions import Predictions

__all__ = ["suggested_boxes"]

SETS_KEPT = 4


def suggested_boxes(workspace: Workspace, tile_id: int, score_threshold: float) -> Boxes:
    """The boxes that the newest prediction set of a fine-tuned model holds of this tile, from ``score_threshold`` up, in tile pixels.

    Nothing where no such set holds the tile, or where it speaks of other classes than the workspace.
    """
    with workspace.session(write=False) as session:
        if session.get(LabelSetRow, 1) is None:
            return Boxes.empty(scored=True)
        fingerprint = label_set(session).fingerprint
        query = (
            select(PredictionSet)
            .join(ModelRow, ModelRow.id == PredictionSet.model_id)
            .where(ModelRow.stage == "finetune", ModelRow.label_set_fingerprint == fingerprint)
            .order_by(PredictionSet.created.desc(), PredictionSet.id.desc())
        )
        known = [(predictions_directory(workspace, row.name), row.created) for row in session.scalars(query)]
    for directory, created in known:
        predictions = _loaded(directory, created)
        if tile_id in predictions.tile_ids:
            boxes = predictions.of_tile(tile_id)
            assert boxes.scores is not None
            return boxes.take(boxes.scores >= score_threshold)
    return Boxes.empty(scored=True)


@lru_cache(maxsize=SETS_KEPT)
def _loaded(directory: Path, _created: float) -> Predictions:
    """A set as it was made at that time: a set that was made anew under its name is read anew."""
    return Predictions.load(directory)
