"""``one-shot``: a detector that finds whatever one drawn box shows, from the labelled tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.models import model_directory, unseen_classes
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.schema import ModelRow
from engine.catalog.starting import architecture, parent_identity, starting_model
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.training import (
    RunIdentity,
    TrainingReport,
    data_hash,
    finish_run,
    finished_report,
    region_store,
    run_checkpoints,
    run_log,
)
from engine.catalog.training_logs import PICTURES
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.models.detector import DetectorConfig
from engine.models.store import read_model, start_from
from engine.pretext.pictures import PretextPictures
from engine.pretext.plan import Pretext
from engine.pretext.regions import RegionConfig
from engine.pretext.taught_regions import taught_regions
from engine.progress import Progress, silent
from engine.training.data import TileSource
from engine.training.joint import JointTask, WeightConfig, Weighted
from engine.training.loop import ScheduleConfig, Watch, seeded, train
from engine.training.one_shot import OneShotConfig, OneShotTask, QueryBank
from engine.training.pool import WithPool
from engine.training.task import Task

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
    leave_out: tuple[str, ...] = ()
    """Classes as if nobody had labelled them, so that `evaluate` says what is found of such: none is asked for, and a tile that shows one
    counts as unlabelled."""
    look_alikes: RegionConfig | None = RegionConfig(taught="look-alikes")
    """Regions of all tiles of the training ground that are asked for beside the labelled objects, so that what nobody has labelled is
    found too; null for none."""
    look_alikes_weight: WeightConfig = WeightConfig()
    """How much they count."""
    look_alikes_share: float = Field(default=1.0, gt=0)
    """Tiles that are asked for regions, for each labelled one of a batch."""
    pictures_every: int = Field(default=600, ge=0)
    """Images seen between two sets of pictures of what is asked and answered, beside the log; 0 for none."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""

    @model_validator(mode="after")
    def _regions_are_asked_for(self) -> Self:
        if self.look_alikes and self.look_alikes.taught != "look-alikes":
            raise ValueError(f"look_alikes.taught = {self.look_alikes.taught!r}: the detector is asked by patches, expected 'look-alikes'")
        return self


def one_shot(workspace: Workspace, config: OneShotTrainingConfig, *, progress: Progress = silent) -> TrainingReport:
    """Train a detector to find on a tile what a box from another tile shows, on every reviewed tile of the training ground.

    It learns from the labelled objects, each standing for its class, and from regions of all tiles, labelled or not, each standing for
    those that look like it. Afterwards it is asked by any box, of a new class too; ``search`` uses the newest one. The same call after a
    crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: no tile of the training ground is reviewed, each shows a class that is left out, none holds a box that is large enough
            to be asked for, or there are fewer regions than clusters.
        UsageError: dev AP is asked for, which one-shot detection has none of; or every class is left out, or one that there is not, or that
            the model to start from has learned; or what would be frozen is random.
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
            parent = starting_model(session, config.start)
            if not labelled:
                raise NothingToDo("no tile of the training ground is reviewed", remedy="Bring labels in: tilehawk labels import FILE")
            boxes = tile_boxes(session, labelled)
            if config.leave_out:
                labelled = _without(_require_unseen(session, config.leave_out, parent), labelled, boxes)
                boxes = {tile.id: boxes[tile.id] for tile in labelled}
            seen = tiles(session, split="train") if config.look_alikes else labelled
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        detector = architecture(config.detector, stored, seen).model_copy(update={"one_shot": True})
        identity = RunIdentity(
            stage="one-shot",
            config=config.model_copy(update={"detector": detector}).model_dump(
                mode="json", exclude={"name", "cache_bytes", "pictures_every"}
            ),
            data=data_hash(seen, boxes),
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
        if stored and detector.backbone_weights == "none":
            start_from(model, stored.directory)  # regions are described by its backbone, for there is no other that learned anything
        checkpoints = run_checkpoints(workspace, identity)
        with TilePixels(workspace) as pixels, TilePixels(workspace) as other_pixels:
            source = WorkspaceTiles(pixels, labelled, boxes, detector.image_size, cache_bytes=config.cache_bytes // 2)
            asked = OneShotTask(model, QueryBank(source, config.asked.patch_size, progress=progress), config.asked)
            task: Task = asked
            shown = {"asked": Pretext(task, source, None, None, None, asked)}
            if config.look_alikes:
                everything = WorkspaceTiles(other_pixels, seen, {}, detector.image_size, cache_bytes=config.cache_bytes // 2)
                regions = taught_regions(
                    model,
                    config.look_alikes,
                    everything,
                    seed=config.schedule.seed,
                    store=region_store(workspace, seen),
                    progress=progress,
                )
                wanted = config.look_alikes.asked
                sought = OneShotTask(model, QueryBank(regions, wanted.patch_size, progress=progress), wanted)
                task = _beside(task, sought, regions, config)
                shown["regions"] = Pretext(task, regions, None, None, None, sought)
            if stored:
                start_from(model, stored.directory)
            log = run_log(workspace, identity)
            run = train(
                task,
                source,
                config.schedule,
                checkpoints=checkpoints,
                progress=progress,
                log=log,
                watch=_watch(shown, log / PICTURES, config),
            )
        count = sum(len(known) for known in boxes.values())
        return finish_run(workspace, model, identity, run, name=name, parent=parent, tiles=len(labelled), boxes=count)


def _watch(shown: Mapping[str, Pretext], folder: Path, config: OneShotTrainingConfig) -> Watch:
    """Pictures by their names of what is asked."""
    pictures = [PretextPictures(each, folder, seed=config.schedule.seed, regions=name) for name, each in shown.items()]

    def look(images_seen: int) -> None:
        for each in pictures:
            each(images_seen)

    return Watch(config.pictures_every, look)


def _beside(labels: Task, sought: Task, regions: TileSource, config: OneShotTrainingConfig) -> Task:
    """What labels teach, and beside it the regions that are asked for."""
    pool = WithPool(sought, regions, config.schedule.augment, share=config.look_alikes_share, instead=True)
    return JointTask({"labels": Weighted(labels, WeightConfig()), "look-alikes": Weighted(pool, config.look_alikes_weight)})


def _require_unseen(session: Session, names: Sequence[str], start: ModelRow | None) -> list[int]:
    """The labels of the classes ``names``, of which the model to start from must know nothing."""
    classes = label_set(session)
    unknown = [name for name in names if name not in classes.names]
    if unknown or set(names) == set(classes.names):
        raise UsageError(
            f"leave_out = {list(names)}" + (f", where {unknown[0]!r} is no class" if unknown else ", which is every class"),
            expected=f"some of {list(classes.names)}, and one at least that is learned",
            remedy="Name the classes to be left out",
        )
    learned = sorted(set(names) - set(unseen_classes(session, start, classes)))
    if start and learned:
        raise UsageError(
            f"leave_out = {list(names)} with the start {start.name!r}: it, or a model that it came from, has learned labels of {learned}",
            expected="a model that learned without labels, or that left the same classes out",
            remedy="Name a pre-trained one: --from MODEL, or --from scratch",
        )
    return [classes.index(name) for name in names]


def _without(labels: Sequence[int], labelled: Sequence[TileRecord], boxes: Mapping[int, Boxes]) -> list[TileRecord]:
    """The labelled tiles that show none of the classes ``labels``."""
    left = [tile for tile in labelled if not np.isin(boxes[tile.id].labels, labels).any()]
    if not left:
        raise NothingToDo(
            f"each of {len(labelled)} reviewed tiles of the training ground shows a class of leave_out",
            expected="tiles without them",
            remedy="Leave fewer classes out, or review more tiles",
        )
    return left
