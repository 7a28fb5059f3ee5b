"""``one-shot``: a detector that finds whatever one drawn box shows, from the labelled tiles."""

from __future__ import annotations

from pydantic import Field

from engine.catalog.annotations import tile_boxes
from engine.catalog.models import model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.starting import architecture, parent_identity, starting_model
from engine.catalog.tiles import tiles
from engine.catalog.training import RunIdentity, TrainingReport, data_hash, finish_run, finished_report, run_checkpoints, run_log
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.models.detector import DetectorConfig
from engine.models.store import read_model, start_from
from engine.progress import Progress, silent
from engine.training.loop import ScheduleConfig, seeded, train
from engine.training.one_shot import OneShotConfig, OneShotTask, QueryBank

__all__ = ["OneShotTrainingConfig", "one_shot"]

SOUGHT = LabelSet.of(["look-alike"])
"""What such a model speaks of."""


class OneShotTrainingConfig(StageConfig):
    """How a one-shot detector is trained on the reviewed tiles of the training ground."""

    name: str | None = None
    """Name of the model; none for one made from the run's fingerprint."""
    start: str | None = None
    """The model to start from; none for the newest pre-trained one, "scratch" for the backbone's weights alone."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long and how fast."""
    detector: DetectorConfig = DetectorConfig()
    """The architecture. What is not stated is as in the model to start from, or else as in `nano`; what decides about weights must be as
    there."""
    asked: OneShotConfig = OneShotConfig()
    """What is asked for, and how."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""


def one_shot(workspace: Workspace, config: OneShotTrainingConfig, *, progress: Progress = silent) -> TrainingReport:
    """Train a detector to find on a tile what a box from another tile shows, on every reviewed tile of the training ground.

    Its classes are those of the workspace while it learns; afterwards it is asked by any box, of a new class too. ``search`` uses the
    newest one. The same call after a crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: no tile of the training ground is reviewed, or none holds a box that is large enough to be asked for.
        UsageError: dev AP is asked for, which one-shot detection has none of.
        BadInput: no such model to start from, or the name is taken.
        CheckpointRefused: the model to start from is damaged or of another architecture.
    """
    if config.schedule.evaluate_every:
        raise UsageError(
            f"schedule.evaluate_every = {config.schedule.evaluate_every} for one-shot training",
            expected="0: there is no dev AP without classes",
            remedy="Leave it out",
        )
    with workspace.worker_lock("one-shot"):
        with workspace.session(write=False) as session:
            labelled = tiles(session, split="train", reviewed=True)
            boxes = tile_boxes(session, labelled)
            parent = starting_model(session, config.start)
        if not labelled:
            raise NothingToDo("no tile of the training ground is reviewed", remedy="Bring labels in: tilehawk labels import FILE")
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        detector = architecture(config.detector, stored, labelled).model_copy(update={"one_shot": True})
        identity = RunIdentity(
            stage="one-shot",
            config=config.model_copy(update={"detector": detector}).model_dump(mode="json", exclude={"name", "cache_bytes"}),
            data=data_hash(labelled, boxes),
            parent=parent_identity(stored),
            label_set=SOUGHT,
        )
        name = identity.name(config.name)
        with workspace.session(write=False) as session:
            done = finished_report(workspace, session, identity, name)
        if done:
            return done
        with seeded(config.schedule.seed):
            model = new_detector(workspace, detector, len(SOUGHT))
        if stored:
            start_from(model, stored.directory)
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, labelled, boxes, detector.image_size, cache_bytes=config.cache_bytes)
            task = OneShotTask(model, QueryBank(source, config.asked.patch_size, progress=progress), config.asked)
            run = train(
                task,
                source,
                config.schedule,
                checkpoints=run_checkpoints(workspace, identity),
                progress=progress,
                log=run_log(workspace, identity),
            )
        count = sum(len(known) for known in boxes.values())
        return finish_run(workspace, model, identity, run, name=name, parent=parent, tiles=len(labelled), boxes=count)
