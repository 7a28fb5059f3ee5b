"""``finetune``: a detector from the labelled tiles."""

from __future__ import annotations

from pydantic import Field
from sqlalchemy.orm import Session

from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.models import get_model, model_directory, models
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.schema import ModelRow
from engine.catalog.tiles import tiles
from engine.catalog.training import RunIdentity, TrainingReport, data_hash, finish_run, finished_report, run_checkpoints
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.models.detector import DetectorConfig
from engine.models.store import read_model, start_from
from engine.progress import Progress, silent
from engine.training.detection import DetectionTask
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
    """The architecture; it must be that of the model to start from."""
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


def finetune(workspace: Workspace, config: FinetuneConfig, *, progress: Progress = silent) -> TrainingReport:
    """Train a detector on every reviewed tile of the training ground.

    The same call after a crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: no tile of the training ground is reviewed, or none holds a box.
        BadInput: no classes yet, no such model to start from, or the name is taken.
        LabelSetMismatch: the model to start from speaks of other classes.
        CheckpointRefused: the model to start from is damaged or of another architecture.
    """
    with workspace.worker_lock("finetune"):
        with workspace.session(write=False) as session:
            classes = label_set(session)
            labelled = tiles(session, split="train", reviewed=True)
            boxes = tile_boxes(session, labelled)
            parent = starting_model(session, config.start)
        count = sum(len(known) for known in boxes.values())
        if not count:
            raise NothingToDo(
                f"{len(labelled)} tiles of the training ground are reviewed, with {count} boxes",
                expected="at least one box",
                remedy="Bring labels in (tilehawk labels import FILE), or rank a round and annotate it",
            )
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        if stored and stored.stage == "finetune":
            classes.require_equal(stored.label_set, ours="this workspace", theirs=f"the model {stored.directory.name}")
        identity = RunIdentity(
            stage="finetune",
            config=config.model_dump(mode="json", exclude={"name", "cache_bytes"}),
            data=data_hash(labelled, boxes),
            parent=f"{parent.name}:{stored.manifest['sha256']['model.safetensors']}" if parent and stored else None,
            label_set=classes,
        )
        name = identity.name(config.name)
        with workspace.session(write=False) as session:
            done = finished_report(workspace, session, identity, name)
        if done:
            return done
        with seeded(config.schedule.seed):
            model = new_detector(workspace, config.detector, len(classes))
        if stored:
            start_from(model, stored.directory)
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, labelled, boxes, config.detector.image_size, cache_bytes=config.cache_bytes)
            checkpoints = run_checkpoints(workspace, identity)
            run = train(DetectionTask(model), source, config.schedule, checkpoints=checkpoints, progress=progress)
        return finish_run(workspace, model, identity, run, name=name, parent=parent, tiles=len(labelled), boxes=count)
