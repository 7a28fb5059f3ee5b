"""``pretrain``: the detector learns from unlabelled tiles to find query patches (UP-DETR)."""

from __future__ import annotations

from pydantic import Field

from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.tiles import tiles
from engine.catalog.training import RunIdentity, TrainingReport, data_hash, finish_run, finished_report, run_checkpoints, run_log
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.models.detector import DetectorConfig
from engine.pretext.query_patches import PatchConfig, QueryPatchTask
from engine.progress import Progress, silent
from engine.training.loop import ScheduleConfig, seeded, train

__all__ = ["PretrainConfig", "pretrain"]


class PretrainConfig(StageConfig):
    """How the detector is pre-trained on every tile of the training ground, labelled or not."""

    name: str | None = None
    """Name of the model; none for one made from the run's fingerprint."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long and how fast."""
    patches: PatchConfig = PatchConfig()
    """How query patches are cut and found."""
    detector: DetectorConfig = DetectorConfig()
    """The architecture."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""


def pretrain(workspace: Workspace, config: PretrainConfig, *, progress: Progress = silent) -> TrainingReport:
    """Pre-train on the training ground; dev and test ground stay unseen.

    The same call after a crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: there is no tile of the training ground.
        UsageError: the patches do not divide the slots.
        BadInput: the name is taken.
    """
    if config.detector.patch_slots % config.patches.patches:
        raise UsageError(
            f"patches.patches = {config.patches.patches} with detector.patch_slots = {config.detector.patch_slots}",
            expected="a divisor of the slots",
            remedy="Change one of the two",
        )
    with workspace.worker_lock("pretrain"):
        with workspace.session(write=False) as session:
            unlabelled = tiles(session, split="train")
        if not unlabelled:
            raise NothingToDo("there is no tile of the training ground", remedy="Take imagery in: tilehawk ingest ARCHIVE_OR_FOLDER")
        identity = RunIdentity(
            stage="pretrain",
            config=config.model_dump(mode="json", exclude={"name", "cache_bytes"}),
            data=data_hash(unlabelled, {}),
            parent=None,
            label_set=LabelSet(()),
        )
        name = identity.name(config.name)
        with workspace.session(write=False) as session:
            done = finished_report(workspace, session, identity, name)
        if done:
            return done
        with seeded(config.schedule.seed):
            model = new_detector(workspace, config.detector, 0)
        with TilePixels(workspace) as pixels:
            source = WorkspaceTiles(pixels, unlabelled, {}, config.detector.image_size, cache_bytes=config.cache_bytes)
            run = train(
                QueryPatchTask(model, config.patches),
                source,
                config.schedule,
                checkpoints=run_checkpoints(workspace, identity),
                progress=progress,
                log=run_log(workspace, identity),
            )
        return finish_run(workspace, model, identity, run, name=name, parent=None, tiles=len(unlabelled), boxes=0)
