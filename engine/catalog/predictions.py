"""Prediction sets as the catalog knows them."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog.annotations import label_set
from engine.catalog.models import NAME
from engine.catalog.schema import ModelRow, PredictionSet, RoundRow
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, LabelSetMismatch
from engine.files import inside

__all__ = ["RoundDetections", "add_prediction_set", "get_prediction_set", "prediction_sets", "predictions_directory", "round_detections"]


def predictions_directory(workspace: Workspace, name: str) -> Path:
    """Where the prediction set ``name`` lives, below ``predictions/``; it need not exist yet.

    Raises:
        BadInput: a name with anything but letters, digits, dot, dash and underscore.
    """
    if not NAME.fullmatch(name):
        raise BadInput(f"the name {name!r} of predictions", expected="letters, digits, dot, dash and underscore, at most 128")
    return inside(workspace.predictions, name)


def add_prediction_set(session: Session, *, name: str, model: ModelRow, tiles: int) -> PredictionSet:
    """Register predictions whose folder is complete; registering the same name again updates its row and makes it the newest."""
    row = session.scalar(select(PredictionSet).where(PredictionSet.name == name))
    if row is None:
        row = PredictionSet(name=name)
        session.add(row)
    row.model_id, row.tiles, row.created = model.id, tiles, time.time()
    session.flush()
    return row


def prediction_sets(session: Session, *, model_id: int | None = None) -> list[PredictionSet]:
    """The prediction sets in the order of their making, of one model or of all."""
    query = select(PredictionSet).order_by(PredictionSet.created, PredictionSet.id)
    return list(session.scalars(query if model_id is None else query.where(PredictionSet.model_id == model_id)))


def get_prediction_set(session: Session, name: str) -> PredictionSet:
    """The prediction set ``name``.

    Raises:
        BadInput: there is none; the message names the nearest.
    """
    known = {row.name: row for row in prediction_sets(session)}
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=1)
    raise BadInput(
        f"no predictions named {name!r}",
        expected=f"one of {list(known)}" if known else "",
        remedy=f"Did you mean {nearest[0]!r}?" if nearest else "Make some: tilehawk predict",
    )


@dataclass(frozen=True)
class RoundDetections:
    """What a round's detector says: its name, None where the round was ranked without one, and its scored boxes by tile id."""

    model: str | None
    of_tile: Callable[[int], Boxes]


def round_detections(workspace: Workspace, session: Session, row: RoundRow) -> RoundDetections:
    """The detections that a round's annotator may be shown.

    Raises:
        LabelSetMismatch: they speak of other classes than the workspace.
    """
    from engine.inference.predictions import Predictions

    found = None if row.prediction_set_id is None else session.get_one(PredictionSet, row.prediction_set_id)
    model = None if found is None else session.get_one(ModelRow, found.model_id)
    if found is None or model is None or model.stage != "finetune":
        return RoundDetections(None, lambda _: Boxes.empty(scored=True))
    if model.label_set_fingerprint != label_set(session).fingerprint:
        raise LabelSetMismatch(
            f"the predictions {found.name!r} of model {model.name!r} speak of other classes than this workspace",
            expected="predictions of a model that was fine-tuned on the workspace's classes",
            remedy="Run `tilehawk finetune`, `tilehawk predict` and `tilehawk rank` again",
        )
    return RoundDetections(model.name, Predictions.load(predictions_directory(workspace, found.name)).of_tile)
