"""``evaluate`` of a model that is asked by boxes: each reviewed tile is asked for every class it shows, with crops from other tiles."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.evaluations import evaluation_file, evaluation_pictures
from engine.catalog.models import get_model, is_asked, model_directory, models, unseen_classes
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.schema import ModelRow
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.errors import NothingToDo, UsageError
from engine.evaluation.one_shot import LabelledImage, OneShotMetrics, Question, one_shot_metrics, one_shot_questions
from engine.evaluation.one_shot_plot import CLASSES_PICTURE, write_classes
from engine.files import atomic_directory, write_json
from engine.inference.one_shot import answers, patch_feature
from engine.inference.similarity import cut_patches
from engine.models.detector import Detector
from engine.models.store import load_detector
from engine.progress import Progress, silent, track
from engine.records import Ground
from engine.stages.evaluate import EvaluateConfig, EvaluationReport, evaluate
from engine.training.data import Part, TileSource, readable
from engine.training.one_shot import OneShotConfig

__all__ = ["OneShotEvaluationReport", "evaluate_model", "evaluate_one_shot"]


@dataclass(frozen=True)
class OneShotEvaluationReport:
    """What a model that is asked by boxes finds on the reviewed tiles of a split, and the file in which it stands."""

    model: str
    split: str
    file: str
    pictures: str | None
    """their folder"""
    metrics: OneShotMetrics
    unreadable: tuple[int, ...]
    """tiles that could not be read, of which nothing was asked"""


def evaluate_model(
    workspace: Workspace, config: EvaluateConfig, *, progress: Progress = silent
) -> EvaluationReport | OneShotEvaluationReport:
    """Measure a model as its kind asks for: by predictions, or, where the model that is named is asked by boxes, by asking it.

    Raises:
        TilehawkError: see :func:`engine.stages.evaluate.evaluate` and :func:`evaluate_one_shot`.
    """
    with workspace.session(write=False) as session:
        asked = [row.name for row in models(session) if row.name == config.model and is_asked(row)]
    return (evaluate_one_shot if asked else evaluate)(workspace, config, progress=progress)


def evaluate_one_shot(workspace: Workspace, config: EvaluateConfig, *, progress: Progress = silent) -> OneShotEvaluationReport:
    """Ask a model for every class that each reviewed tile of the split shows, five times with crops from other ground.

    The classes of which it has learned no label are its unseen ones; after pre-training alone all are. The report is written as JSON, and
    the means are kept with the model. Thresholds and worst tiles are none here: every answer counts.

    Raises:
        BadInput: no such model, or no classes yet.
        UsageError: predictions are named, of which such a model has none; or tiles larger than its input.
        NothingToDo: no tile of the split is reviewed, or no class can be asked for.
        CheckpointRefused: the model is damaged.
    """
    if config.predictions is not None:
        raise UsageError(
            f"predictions = {config.predictions!r} for {config.model!r}, which is asked by boxes",
            expected="no predictions: the tiles are asked while it is measured",
            remedy="Leave them out",
        )
    with workspace.worker_lock("evaluate"):
        with workspace.session(write=False) as session:
            classes = label_set(session)
            row = get_model(session, config.model)
            unseen = unseen_classes(session, row, classes)
            records = tiles(session, split=config.split, reviewed=True)
            true = tile_boxes(session, records)
        if not records:
            raise NothingToDo(
                f"no tile of the split {config.split!r} is reviewed", remedy="Bring labels of that ground in: tilehawk labels import FILE"
            )
        model, _ = load_detector(model_directory(workspace, row.name))
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, records, true, model.config.image_size)
            kept = np.array([index for index, _ in readable(source, range(len(source)))], np.int64)
            known = [records[index] for index in kept.tolist()]
            images = [LabelledImage(tile.id, true[tile.id], Ground(tile.scene_id, tile.window)) for tile in known]
            asked = one_shot_questions(images)
            found = _Asks(model, Part(source, kept), known, side=_patch_size(row), most=config.max_detections).all(asked, progress)
        metrics = one_shot_metrics(images, asked, found, classes, unseen=unseen, max_detections=config.max_detections)
        lost = {tile.id for tile in records} - {tile.id for tile in known}
        return _kept(workspace, row.name, config, metrics, tuple(sorted(lost)))


def _patch_size(row: ModelRow) -> int:
    """Side of the patches that the model was asked with when it learned."""
    asked = row.config.get("asked") or (row.config.get("regions") or {}).get("asked") or {}
    return int(asked.get("patch_size", OneShotConfig().patch_size))


class _Asks:
    """Asks a model on tiles that can be read."""

    def __init__(self, model: Detector, source: TileSource, records: Sequence[TileRecord], *, side: int, most: int) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._source, self._records, self._side, self._most = source, records, side, most

    def all(self, asked: Sequence[Sequence[Question]], progress: Progress) -> list[list[Boxes]]:
        """The answers to the questions of each round; a tile is encoded once for all that it is asked."""
        by_image: dict[int, dict[Question, None]] = {}
        for question in itertools.chain.from_iterable(asked):
            by_image.setdefault(question.image, {})[question] = None
        features = self._features({(question.shown, question.box) for own in by_image.values() for question in own}, progress)
        found: dict[Question, Boxes] = {}
        for index, own in track(by_image.items(), len(by_image), "asking tiles", progress):
            image = self._source.sample(index).image.to(self._device).float() / 255
            wanted = torch.stack([features[question.shown, question.box] for question in own])
            window = self._records[index].window
            for question, answer in zip(own, answers(self._model, image, wanted, most=self._most), strict=True):
                found[question] = answer.visible_in((0, 0, window.width, window.height), 0)
        return [[found[question] for question in each] for each in asked]

    def _features(self, crops: set[tuple[int, tuple[float, ...]]], progress: Progress) -> dict[tuple[int, tuple[float, ...]], Tensor]:
        described = {}
        shown = sorted({index for index, _ in crops})
        for index in track(shown, len(shown), "describing crops", progress):
            own = sorted(box for number, box in crops if number == index)
            patches = cut_patches(self._source.sample(index).image, torch.tensor(own), size=self._side)
            for box, feature in zip(own, patch_feature(self._model, patches.to(self._device)), strict=True):
                described[index, box] = feature
        return described


def _kept(
    workspace: Workspace, name: str, config: EvaluateConfig, metrics: OneShotMetrics, lost: tuple[int, ...]
) -> OneShotEvaluationReport:
    """The report, after it was written, and its means noted with the model."""
    kept_as, root = f"one-shot-{name}", workspace.root.resolve()
    folder = evaluation_pictures(workspace, kept_as, config.split)
    if config.pictures:
        with atomic_directory(folder) as temporary:
            write_classes(metrics, temporary / f"{CLASSES_PICTURE}.png")
    elif folder.exists():
        shutil.rmtree(folder)
    file = evaluation_file(workspace, kept_as, config.split)
    report = OneShotEvaluationReport(
        model=name,
        split=config.split,
        file=str(file.relative_to(root)),
        pictures=str(folder.relative_to(root)) if config.pictures else None,
        metrics=metrics,
        unreadable=lost,
    )
    write_json(file, {**asdict(report), "config": config.model_dump(mode="json")})
    means = {"seen": metrics.seen, "unseen": metrics.unseen}
    with workspace.session() as session:
        stored = get_model(session, name)
        kept = {**means, "questions": metrics.questions, "tiles": metrics.images, "predictions": kept_as}
        stored.metrics = {**stored.metrics, config.split: kept}
        ledger.record(session, "evaluate", model=name, split=config.split, **means)
    return report
