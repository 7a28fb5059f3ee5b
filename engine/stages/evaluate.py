"""``evaluate``: a model's predictions against the labels of a split, as COCO measures them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.evaluations import evaluation_file, evaluation_pictures
from engine.catalog.models import get_model
from engine.catalog.pixels import TilePixels
from engine.catalog.predictions import get_prediction_set, prediction_sets, predictions_directory
from engine.catalog.schema import ModelRow, PredictionSet
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, LabelSetMismatch, NothingToDo
from engine.evaluation.analysis import Analysis, analyse
from engine.evaluation.curves import OperatingPoint
from engine.evaluation.detection import DetectionMetrics, evaluate_detections
from engine.evaluation.plots import TileView, write_diagrams, write_worst_tiles
from engine.evaluation.worst import TileErrors
from engine.files import atomic_directory, write_json
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.progress import Progress, silent

__all__ = ["ClassResult", "EvaluateConfig", "EvaluationReport", "evaluate"]


class EvaluateConfig(StageConfig):
    """What is measured, and on what ground."""

    model: str | None = None
    """Name of a model; none for the newest fine-tuned one, or for the one that made ``predictions``. A one-shot model is asked for every
    class that a tile shows, with crops from other tiles."""
    split: Literal["test", "dev", "train"] = "test"
    """Whose reviewed tiles are looked at. Tune on dev; test is for the last word."""
    predictions: str | None = None
    """Name of a prediction set of that model; none for its newest one that covers the split."""
    max_detections: int = Field(default=100, ge=1)
    """The best so many predictions of each class on a tile count. COCO says 100; dense imagery needs more."""
    score_threshold: float | None = Field(default=None, ge=0, le=1)
    """The score from which a prediction counts as a box, in the confusion and on the worst tiles; none for that of the best F1: on dev
    ground where the model was evaluated there, else on these very tiles. The averages count every prediction."""
    pictures: bool = True
    """Draw curves, confusion, calibration and the worst tiles."""
    worst_tiles: int = Field(default=12, ge=0, le=99)
    """At most so many of them."""


@dataclass(frozen=True)
class EvaluationReport:
    """The metrics of one model on the reviewed tiles of a split, and the file in which they stand with all curves."""

    model: str
    predictions: str
    split: str
    file: str
    pictures: str | None
    """their folder"""
    threshold_from: str
    """where the threshold of ``point`` comes from: ``config``, or the split whose best F1 it gives"""
    point: OperatingPoint
    calibration_error: float | None
    metrics: DetectionMetrics
    per_class: tuple[ClassResult, ...]
    worst_tiles: tuple[TileErrors, ...]
    unreadable: tuple[int, ...]
    """those of the worst tiles whose pixels could not be read; they are counted, not drawn"""


@dataclass(frozen=True)
class ClassResult:
    """A class at a glance: its true boxes, AP, AP50, and its own threshold of the best F1."""

    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


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
        progress(0, 3, "measuring")
        pairs = {tile.id: (true[tile.id], predictions.of_tile(tile.id)) for tile in records}
        metrics = evaluate_detections(list(pairs.values()), classes, max_detections=config.max_detections)
        threshold, threshold_from = _threshold(model, config)
        analysis = analyse(
            list(pairs.values()),
            classes,
            list(pairs),
            threshold=threshold,
            max_detections=config.max_detections,
            worst=config.worst_tiles,
        )
        folder = evaluation_pictures(workspace, row.name, config.split)
        unreadable: tuple[int, ...] = ()
        if config.pictures:
            unreadable = _draw(workspace, folder, analysis, records, pairs, classes, progress)
        elif folder.exists():
            shutil.rmtree(folder)
        root = workspace.root.resolve()
        file = evaluation_file(workspace, row.name, config.split)
        report = EvaluationReport(
            model=model.name,
            predictions=row.name,
            split=config.split,
            file=str(file.relative_to(root)),
            pictures=str(folder.relative_to(root)) if config.pictures else None,
            threshold_from=threshold_from,
            point=analysis.point,
            calibration_error=analysis.reliability.expected_error,
            metrics=metrics,
            per_class=_per_class(metrics, analysis),
            worst_tiles=analysis.worst,
            unreadable=unreadable,
        )
        write_json(file, {**asdict(report), "analysis": asdict(analysis), "config": config.model_dump(mode="json")})
        _keep(workspace, model.name, report, analysis)
        progress(3, 3, "evaluated")
    return report


def _threshold(model: ModelRow, config: EvaluateConfig) -> tuple[float | None, str]:
    """The threshold that counts, None for that of the best F1 on the split itself; and where it comes from."""
    if config.score_threshold is not None:
        return config.score_threshold, "config"
    on_dev = model.metrics.get("dev", {}).get("best_threshold")
    return (on_dev, "dev") if config.split == "test" and on_dev is not None else (None, config.split)


def _per_class(metrics: DetectionMetrics, analysis: Analysis) -> tuple[ClassResult, ...]:
    return tuple(
        ClassResult(
            name=name,
            boxes=analysis.curves[name].boxes,
            ap=metrics.ap_per_class[name],
            ap50=metrics.ap50_per_class[name],
            threshold=best.threshold,
            precision=best.precision,
            recall=best.recall,
            f1=best.f1,
        )
        for name, best in analysis.best_per_class.items()
    )


def _draw(
    workspace: Workspace,
    folder: Path,
    analysis: Analysis,
    records: Sequence[TileRecord],
    pairs: Mapping[int, tuple[Boxes, Boxes]],
    classes: LabelSet,
    progress: Progress,
) -> tuple[int, ...]:
    """Draw everything into ``folder``, which is replaced as a whole; returns the tiles whose pixels could not be read."""
    record_of = {tile.id: tile for tile in records}
    views, unreadable = [], []
    progress(1, 3, "reading the worst tiles")
    with TilePixels(workspace) as reader:
        for errors in analysis.worst:
            true, predicted = pairs[errors.tile]
            assert predicted.scores is not None, "predictions carry scores"
            try:
                pixels = reader.read(record_of[errors.tile])
            except BadInput:
                unreadable.append(errors.tile)
                continue
            views.append(TileView(errors, pixels, true, predicted.take(predicted.scores >= analysis.point.threshold)))
    progress(2, 3, "drawing")
    with atomic_directory(folder) as temporary:
        write_diagrams(analysis, temporary)
        write_worst_tiles(views, temporary, classes)
    return tuple(unreadable)


def _keep(workspace: Workspace, name: str, report: EvaluationReport, analysis: Analysis) -> None:
    """The numbers to the model's row, and a line to the ledger."""
    metrics, split = report.metrics, report.split
    kept = {**asdict(metrics), "predictions": report.predictions, "best_threshold": analysis.best.threshold, "best_f1": analysis.best.f1}
    with workspace.session() as session:
        stored = get_model(session, name)
        stored.metrics = {**stored.metrics, split: kept}
        ledger.record(session, "evaluate", model=name, split=split, predictions=report.predictions, ap=metrics.ap, ap50=metrics.ap50)


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
