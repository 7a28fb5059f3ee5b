"""``evaluate``: a model's predictions against the labels of a split, as COCO measures them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.models import get_model
from engine.catalog.predictions import get_prediction_set, prediction_sets, predictions_directory
from engine.catalog.schema import ModelRow, PredictionSet
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, LabelSetMismatch, NothingToDo
from engine.evaluation.detection import DetectionMetrics, evaluate_detections
from engine.files import inside, write_json
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.progress import Progress, silent

__all__ = ["EvaluateConfig", "EvaluationReport", "evaluate"]


class EvaluateConfig(StageConfig):
    """What is measured, and on what ground."""

    model: str | None = None
    """Name of a fine-tuned model; none for the newest, or for the one that made ``predictions``."""
    split: Literal["test", "dev", "train"] = "test"
    """Whose reviewed tiles are looked at. Tune on dev; test is for the last word."""
    predictions: str | None = None
    """Name of a prediction set of that model; none for its newest one that covers the split."""
    max_detections: int = Field(default=100, ge=1)
    """The best so many predictions of each tile count. COCO says 100; dense imagery needs more."""


@dataclass(frozen=True)
class EvaluationReport:
    """The metrics of one model on the reviewed tiles of a split, and the file in which they stand."""

    model: str
    predictions: str
    split: str
    metrics: DetectionMetrics
    file: str


def evaluate(workspace: Workspace, config: EvaluateConfig, *, progress: Progress = silent) -> EvaluationReport:
    """Compare predictions with the accepted annotations on the reviewed tiles of a split; the metrics are kept with the model.

    Raises:
        BadInput: no such model, or no predictions of it that cover the split; the message says what to type.
        LabelSetMismatch: the model speaks of other classes than the workspace.
        NothingToDo: no tile of the split is reviewed, or none holds an object.
    """
    with workspace.worker_lock("evaluate"):
        with workspace.session(write=False) as session:
            classes = label_set(session)
            model = _model(session, config)
            _require_same_classes(model, classes)
            records = tiles(session, split=config.split, reviewed=True)
            true = tile_boxes(session, records)
            sets = _candidate_sets(session, model, config)
        if not records:
            raise NothingToDo(
                f"no tile of the split {config.split!r} is reviewed", remedy="Bring labels of that ground in: tilehawk labels import FILE"
            )
        row, predictions = _covering(workspace, sets, np.asarray([tile.id for tile in records]), model, config)
        progress(0, 1, "evaluating")
        metrics = evaluate_detections(_pairs(true, predictions), classes, max_detections=config.max_detections)
        file = inside(workspace.reports, f"evaluation-{row.name}-{config.split}.json")
        report = EvaluationReport(model.name, row.name, config.split, metrics, str(file.relative_to(workspace.root.resolve())))
        write_json(file, {**asdict(report), "config": config.model_dump(mode="json")})
        with workspace.session() as session:
            stored = get_model(session, model.name)
            stored.metrics = {**stored.metrics, config.split: asdict(metrics)}
            ledger.record(session, "evaluate", model=model.name, split=config.split, predictions=row.name, ap=metrics.ap, ap50=metrics.ap50)
        progress(1, 1, "evaluating")
    return report


def _model(session: Session, config: EvaluateConfig) -> ModelRow:
    if config.predictions is None:
        return get_model(session, config.model, stage="finetune")
    maker = session.get_one(ModelRow, get_prediction_set(session, config.predictions).model_id)
    if config.model is not None and config.model != maker.name:
        raise BadInput(
            f"the predictions {config.predictions!r} were made by {maker.name!r}, not by {config.model!r}",
            remedy="Name one of the two alone",
        )
    return maker


def _require_same_classes(model: ModelRow, classes: LabelSet) -> None:
    if model.label_set_fingerprint != classes.fingerprint:
        raise LabelSetMismatch(
            f"the model {model.name!r} speaks of other classes than this workspace (label set {model.label_set_fingerprint})",
            expected=f"{list(classes.names)} (label set {classes.fingerprint})",
            remedy="Fine-tune a model on this workspace's labels: tilehawk finetune",
        )


def _candidate_sets(session: Session, model: ModelRow, config: EvaluateConfig) -> list[PredictionSet]:
    if config.predictions is not None:
        return [get_prediction_set(session, config.predictions)]
    return list(reversed(prediction_sets(session, model_id=model.id)))


def _covering(
    workspace: Workspace, sets: list[PredictionSet], tile_ids: NDArray[np.int64], model: ModelRow, config: EvaluateConfig
) -> tuple[PredictionSet, Predictions]:
    for row in sets:
        if row.tiles < len(tile_ids):
            continue
        predictions = Predictions.load(predictions_directory(workspace, row.name))
        if predictions.covers(tile_ids):
            return row, predictions
    which = f"the predictions {config.predictions!r} do not cover" if config.predictions else f"no predictions of {model.name!r} on"
    raise BadInput(
        f"{which} the {len(tile_ids)} reviewed tiles of the split {config.split!r}",
        remedy=f"Run `tilehawk predict --split {config.split} --model {model.name}` first",
    )


def _pairs(true: dict[int, Boxes], predictions: Predictions) -> list[tuple[Boxes, Boxes]]:
    return [(boxes, predictions.of_tile(tile_id)) for tile_id, boxes in true.items()]
