"""``finetune``: a detector from the labelled tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from pydantic import Field
from sqlalchemy.orm import Session
from torch import nn

from engine.boxes import Boxes
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.models import get_model, model_directory, models
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.schema import ModelRow
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.training import RunIdentity, TrainingReport, data_hash, finish_run, finished_report, run_checkpoints, run_log
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.evaluation.detection import evaluate_detections
from engine.inference.predict import predict_tiles
from engine.label_set import LabelSet
from engine.models.detector import Detector, DetectorConfig
from engine.models.store import StoredModel, read_model, start_from
from engine.progress import Progress, silent
from engine.training.detection import DetectionTask
from engine.training.early_stop import EvaluateDev
from engine.training.loop import ScheduleConfig, seeded, train

__all__ = ["FinetuneConfig", "finetune"]


class FinetuneConfig(StageConfig):
    """How a detector is trained on the reviewed tiles of the training ground."""

    name: str | None = None
    """Name of the model; none for one made from the run's fingerprint."""
    start: str | None = None
    """The model to start from; none for the newest pre-trained one, "scratch" for the backbone's weights alone."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long and how fast."""
    detector: DetectorConfig = DetectorConfig()
    """The architecture. What is not stated is as in the model to start from, or else as in `nano`; what decides about weights must be as
    there."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""


def starting_model(session: Session, start: str | None) -> ModelRow | None:
    """The model that ``start`` means; None for none."""
    if start == "scratch":
        return None
    if start is None:
        pretrained = models(session, stage="pretrain")
        return pretrained[-1] if pretrained else None
    return get_model(session, start)


def architecture(stated: DetectorConfig, start: StoredModel | None) -> DetectorConfig:
    """``stated``, and what it leaves open as in the model to start from."""
    if start is None:
        return stated
    said = {key: getattr(stated, key) for key in stated.model_fields_set}
    return DetectorConfig.from_mapping(start.config.model_dump() | said)


class DevLook:
    """The AP of a model on reviewed dev tiles, each time that it is asked; reads pixels through a reader of its own."""

    def __init__(self, source: WorkspaceTiles, records: Sequence[TileRecord], true: Mapping[int, Boxes], classes: LabelSet) -> None:
        self._source, self._records, self._true, self._classes = source, records, true, classes

    def __call__(self, model: nn.Module) -> float:
        """AP averaged over IoU .50 to .95."""
        assert isinstance(model, Detector)
        found = predict_tiles(
            model,
            ((tile.id, self._source.image(index)) for index, tile in enumerate(self._records)),
            len(self._records),
            batch_size=8,
            score_threshold=0.01,
            iou_threshold=0.5,
            progress=silent,
            extents=[(tile.window.width, tile.window.height) for tile in self._records],
        )
        pairs = [(self._true[tile.id], found.of_tile(tile.id)) for tile in self._records]
        return evaluate_detections(pairs, self._classes).ap or 0.0


def finetune(workspace: Workspace, config: FinetuneConfig, *, progress: Progress = silent) -> TrainingReport:
    """Train a detector on every reviewed tile of the training ground.

    The same call after a crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: no tile of the training ground is reviewed, or none holds a box; or dev AP is asked for without a box on dev ground.
        BadInput: no classes yet, no such model to start from, or the name is taken.
        LabelSetMismatch: the model to start from speaks of other classes.
        CheckpointRefused: the model to start from is damaged or of another architecture.
    """
    with workspace.worker_lock("finetune"):
        with workspace.session(write=False) as session:
            classes = label_set(session)
            labelled = tiles(session, split="train", reviewed=True)
            boxes = tile_boxes(session, labelled)
            dev = tiles(session, split="dev", reviewed=True) if config.schedule.evaluate_every else []
            dev_boxes = tile_boxes(session, dev)
            parent = starting_model(session, config.start)
        count = sum(len(known) for known in boxes.values())
        if not count:
            raise NothingToDo(
                f"{len(labelled)} tiles of the training ground are reviewed, with {count} boxes",
                expected="at least one box",
                remedy="Bring labels in (tilehawk labels import FILE), or rank a round and annotate it",
            )
        if config.schedule.evaluate_every and not any(len(known) for known in dev_boxes.values()):
            raise NothingToDo(
                f"{len(dev)} tiles of the dev ground are reviewed, without a box, and schedule.evaluate_every asks for their AP",
                expected="at least one box",
                remedy="Bring labels of dev ground in, or set schedule.evaluate_every to 0",
            )
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        if stored and stored.stage == "finetune":
            classes.require_equal(stored.label_set, ours="this workspace", theirs=f"the model {stored.directory.name}")
        detector = architecture(config.detector, stored)
        identity = RunIdentity(
            stage="finetune",
            config=config.model_copy(update={"detector": detector}).model_dump(mode="json", exclude={"name", "cache_bytes"}),
            data=data_hash([*labelled, *dev], {**boxes, **dev_boxes}),
            parent=f"{parent.name}:{stored.manifest['sha256']['model.safetensors']}" if parent and stored else None,
            label_set=classes,
        )
        name = identity.name(config.name)
        with workspace.session(write=False) as session:
            done = finished_report(workspace, session, identity, name)
        if done:
            return done
        with seeded(config.schedule.seed):
            model = new_detector(workspace, detector, len(classes))
        if stored:
            start_from(model, stored.directory)
        with ExitStack() as readers:

            def source(records: Sequence[TileRecord], known: dict[int, Boxes]) -> WorkspaceTiles:
                pixels = readers.enter_context(TilePixels(workspace))
                return WorkspaceTiles(pixels, records, known, detector.image_size, cache_bytes=config.cache_bytes)

            look: EvaluateDev | None = DevLook(source(dev, dev_boxes), dev, dev_boxes, classes) if dev else None
            run = train(
                DetectionTask(model),
                source(labelled, boxes),
                config.schedule,
                checkpoints=run_checkpoints(workspace, identity),
                progress=progress,
                evaluate_dev=look,
                log=run_log(workspace, identity),
            )
        return finish_run(workspace, model, identity, run, name=name, parent=parent, tiles=len(labelled), boxes=count)
