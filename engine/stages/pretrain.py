"""``pretrain``: the detector learns from unlabelled tiles to find query patches, to see what is hidden, or what stands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from engine.catalog.models import get_model, model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.starting import architecture, parent_identity, require_patches, vocabulary_of
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
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.errors import NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.models.detector import DetectorConfig
from engine.models.store import read_model, start_from
from engine.pretext.pictures import PretextPictures
from engine.pretext.plan import PretextConfig, plan_pretext, require_slots
from engine.pretext.tokenizer import tokenizer_files
from engine.progress import Progress, silent
from engine.training.loop import Watch, seeded, train
from engine.training.schedule import PretrainScheduleConfig

__all__ = ["PretrainConfig", "pretrain"]

PICTURES = "pictures"


class PretrainConfig(PretextConfig):
    """How the detector is pre-trained on every tile of the training ground, labelled or not."""

    name: str | None = None
    """Name of the model; none for one made from the run's fingerprint."""
    start: str | None = None
    """The pre-trained model to go on from, as one of imagery of elsewhere; none for the backbone's weights alone."""
    schedule: PretrainScheduleConfig = PretrainScheduleConfig()
    """How long and how fast."""
    detector: DetectorConfig = DetectorConfig()
    """The architecture. What is not stated is as in the model to go on from, or else as in `nano`."""
    pictures_every: int = Field(default=600, ge=0)
    """Images seen between two sets of pictures of what is asked and answered, beside the log; 0 for none."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""

    @model_validator(mode="after")
    def _no_random_backbone_stays(self) -> Self:
        if self.start is not None or self.detector.backbone_weights != "none" or not (self.frozen or self.detector.frozen_stages):
            return self
        raise UsageError(
            f"detector.backbone_weights = 'none' with freeze_backbone = {str(self.frozen).lower()} "
            f"and detector.frozen_stages = {self.detector.frozen_stages}: what is frozen would stay random for good",
            expected="weights in the backbone, or freeze_backbone = false and detector.frozen_stages = 0",
            remedy="Bring weights in (tilehawk models import NAME), go on from a model (--from MODEL), "
            "or --set freeze_backbone=false --set detector.frozen_stages=0",
        )


def pretrain(workspace: Workspace, config: PretrainConfig, *, progress: Progress = silent) -> TrainingReport:
    """Pre-train on the training ground; dev and test ground stay unseen.

    The same call after a crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: there is no tile of the training ground, or too few for the clusters or words asked for.
        UsageError: the tasks do not fit the detector, or the tiles: fewer than images in a step, or all smaller than a patch.
        BadInput: the name is taken, or there is no such pre-trained model to go on from.
        CheckpointRefused: the model to go on from is damaged or of another architecture; or the vocabulary of ``tokenizer_from`` is
            damaged, of another workspace, or of another architecture.
    """
    if config.schedule.evaluate_every:
        raise UsageError(
            f"schedule.evaluate_every = {config.schedule.evaluate_every} for pre-training",
            expected="0: there is no dev AP without labels",
            remedy="Leave it out",
        )
    asked = bool(config.regions and config.regions.taught == "look-alikes")
    if config.detector.one_shot and not asked:
        raise UsageError(
            "detector.one_shot = true, and nothing that teaches it",
            expected="regions.taught = 'look-alikes', which asks the detector by patches",
            remedy="Choose it, or leave one_shot out: `tilehawk one-shot` starts from any pre-trained model",
        )
    with workspace.worker_lock("pretrain"):
        with workspace.session(write=False) as session:
            unlabelled = tiles(session, split="train")
            vocabulary = vocabulary_of(workspace, session, config.tokenizer_from)
            parent = None if config.start is None else get_model(session, config.start, stage="pretrain")
        if not unlabelled:
            raise NothingToDo("there is no tile of the training ground", remedy="Take imagery in: tilehawk ingest ARCHIVE_OR_FOLDER")
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        detector = architecture(config.detector, stored, unlabelled).model_copy(update={"one_shot": asked})
        config = config.model_copy(update={"detector": detector})
        require_slots(detector, config)
        _require_enough(config, unlabelled)
        identity = RunIdentity(
            stage="pretrain",
            config=config.model_dump(mode="json", exclude={"name", "cache_bytes", "pictures_every"})
            | {"tokenizer_from": vocabulary.identity if vocabulary else None},
            data=data_hash(unlabelled, {}),
            parent=parent_identity(stored),
            label_set=LabelSet.of([f"region {number}" for number in range(config.classes)]) if config.classes else LabelSet(()),
        )
        name = identity.name(config.name)
        with workspace.session(write=False) as session:
            done = finished_report(workspace, session, identity, name)
        if done:
            return done
        with seeded(config.schedule.seed):
            model = new_detector(workspace, detector, config.classes)
        if stored:
            start_from(model, stored.directory)
        checkpoints = run_checkpoints(workspace, identity)
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, unlabelled, {}, detector.image_size, cache_bytes=config.cache_bytes)
            with seeded(config.schedule.seed):
                pretext = plan_pretext(
                    model,
                    config,
                    source,
                    seed=config.schedule.seed,
                    vocabulary=vocabulary.path if vocabulary else None,
                    keep=checkpoints.directory,
                    origin=workspace.identity,
                    regions=region_store(workspace, unlabelled),
                    progress=progress,
                )
            log = run_log(workspace, identity)
            pictures = PretextPictures(pretext, log / PICTURES, seed=config.schedule.seed)
            run = train(
                pretext.task,
                pretext.source,
                config.schedule,
                checkpoints=checkpoints,
                progress=progress,
                log=log,
                watch=Watch(config.pictures_every, pictures),
            )
            beside = tokenizer_files(pretext.tokenizer, checkpoints.directory)
        return finish_run(workspace, model, identity, run, name=name, parent=parent, tiles=len(unlabelled), boxes=0, beside=beside)


def _require_enough(config: PretrainConfig, unlabelled: Sequence[TileRecord]) -> None:
    step = config.schedule.batch_size
    if len(unlabelled) < step:
        raise UsageError(
            f"{len(unlabelled)} tiles of the training ground with schedule.batch_size = {step}",
            expected="as many tiles as images in a step, at least",
            remedy=f"Ingest more imagery, or --set schedule.batch_size={len(unlabelled)}",
        )
    require_patches(config.encoder, unlabelled)
