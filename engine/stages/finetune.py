"""``finetune``: a detector from the labelled tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from engine.boxes import Boxes
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.models import model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.schema import ModelRow
from engine.catalog.starting import Vocabulary, architecture, parent_identity, require_patches, starting_model, vocabulary_of
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.training import RunIdentity, TrainingReport, data_hash, finish_run, finished_report, run_checkpoints, run_log
from engine.catalog.training_logs import PICTURES
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo, UsageError
from engine.evaluation.detection import evaluate_detections
from engine.inference.predict import predict_tiles
from engine.label_set import LabelSet
from engine.models.detector import Detector, DetectorConfig
from engine.models.store import StoredModel, load_detector, read_model, start_from
from engine.pretext.encoder_tasks import EncoderTask, EncoderTaskConfig, require_fits, require_use
from engine.pretext.pictures import PretextPictures
from engine.pretext.plan import Pretext
from engine.pretext.self_training import SelfTrainingConfig, believe, with_believed
from engine.pretext.tile_boxes import TileBoxes
from engine.pretext.tokenizer import Tokenizer, TokenizerConfig, kept_tokenizer, tokenizer_files
from engine.progress import Progress, silent
from engine.training.data import Joined, TileSource
from engine.training.detection import DetectionTask
from engine.training.joint import JointTask, WeightConfig, Weighted
from engine.training.loop import ScheduleConfig, Watch, seeded, train
from engine.training.pool import WithPool
from engine.training.schedule import uses_bf16
from engine.training.task import Task

__all__ = ["FinetuneConfig", "finetune"]

READERS = 5
"""Sources of tiles at most, which share the memory: labelled, believed, those shown to a teacher, the pool, dev."""


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
    encoder: EncoderTaskConfig | None = None
    """An encoder task that is learned beside the labels (multi-task); null for none."""
    encoder_weight: WeightConfig = WeightConfig()
    """How much it counts, and whether that falls."""
    unlabelled: float = Field(default=1.0, ge=0)
    """Unlabelled tiles of the training ground that join the encoder task, for each labelled one of a batch."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The vocabulary of mim-discrete."""
    tokenizer_from: str | None = None
    """The model whose vocabulary is taken, in place of making one."""
    self_training: SelfTrainingConfig | None = None
    """What the model to start from, a fine-tuned one, is sure of on unlabelled tiles becomes their labels; null for none."""
    pictures_every: int = Field(default=600, ge=0)
    """Images seen between two pictures of what the encoder task asks and what is answered, beside the log; 0 for none."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""

    @model_validator(mode="after")
    def _names_with_what_it_takes(self) -> Self:
        require_use(self.encoder, self.tokenizer_from)
        return self


class DevLook:
    """The AP of a detector on reviewed dev tiles, each time that it is asked; reads pixels through a reader of its own."""

    def __init__(
        self,
        model: Detector,
        source: WorkspaceTiles,
        records: Sequence[TileRecord],
        true: Mapping[int, Boxes],
        classes: LabelSet,
    ) -> None:
        self._model = model
        self._source, self._records, self._true, self._classes = source, records, true, classes

    def __call__(self) -> float:
        """AP averaged over IoU .50 to .95."""
        found = predict_tiles(
            self._model,
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


def _uses_unlabelled(config: FinetuneConfig) -> bool:
    return bool(config.self_training or (config.encoder and config.unlabelled))


def _require_teacher(stored: StoredModel | None, unlabelled: Sequence[TileRecord]) -> None:
    if stored is None or stored.stage != "finetune":
        raise UsageError(
            f"self_training with {'no model' if stored is None else f'the {stored.stage} model {stored.directory.name!r}'} to start from",
            expected="a fine-tuned model, which labels the other tiles",
            remedy="Name one: --from MODEL",
        )
    if not unlabelled:
        raise NothingToDo("every tile of the training ground is reviewed", remedy="Leave self_training out, or ingest more imagery")


def _shown_to_teacher(unlabelled: Sequence[TileRecord], labelled: int, schedule: ScheduleConfig) -> Sequence[TileRecord]:
    """The tiles, or of more than a run on the ``labelled`` tiles sees so many that the seed draws."""
    most = schedule.over(labelled).images_seen
    assert most is not None
    if len(unlabelled) <= most:
        return unlabelled
    rows = np.random.default_rng(schedule.seed).permutation(len(unlabelled))[:most]
    return [unlabelled[row] for row in sorted(rows.tolist())]


def _believed(
    config: FinetuneConfig,
    stored: StoredModel,
    pool: WorkspaceTiles,
    records: Sequence[TileRecord],
    folder: Path,
    fingerprint: str,
    progress: Progress,
) -> TileBoxes:
    """What the teacher believes of the pool; kept in the run's folder, so that a run that goes on learns the same."""
    asked = config.self_training
    assert asked
    path = folder / "believed.safetensors"
    held = TileBoxes.load(path, fingerprint)
    if held is None:
        teacher, _ = load_detector(stored.directory)
        extents = [(tile.window.width, tile.window.height) for tile in records]
        if torch.cuda.is_available():
            teacher = teacher.cuda()
        bf16 = uses_bf16(config.schedule.precision, next(teacher.parameters()).device)
        held = believe(teacher, pool, asked, extents=extents, bf16=bf16, progress=progress)
        held.save(path, fingerprint)
    if not any(len(boxes) for boxes in held.boxes):
        raise NothingToDo(
            f"{stored.directory.name} finds nothing from a score of {asked.least_score:g} on {len(records)} tiles without labels",
            expected="a box at least",
            remedy="Set a smaller self_training.least_score, or leave self_training out",
        )
    return held


def _vocabulary(
    model: Detector, config: FinetuneConfig, tiles: TileSource, given: Path | None, folder: Path, origin: str, progress: Progress
) -> Tokenizer | None:
    if not config.encoder or config.encoder.task != "mim-discrete":
        return None
    return kept_tokenizer(
        tiles,
        config.tokenizer,
        patch=config.encoder.patch,
        words=config.encoder.vocabulary,
        network=model,
        seed=config.schedule.seed,
        given=given,
        keep=folder,
        origin=origin,
        progress=progress,
    )


def _task(model: Detector, config: FinetuneConfig, pool: TileSource, tokenizer: Tokenizer | None) -> tuple[Task, EncoderTask | None]:
    """What is learned: the labels, and the encoder task beside them where there is one; and that task alone, for pictures."""
    supervised = DetectionTask(model)
    if not config.encoder:
        return supervised, None
    encoder = EncoderTask(model, config.encoder, tokenizer=tokenizer)
    beside: Task = encoder
    if len(pool) and config.unlabelled:
        beside = WithPool(encoder, pool, config.schedule.augment, share=config.unlabelled)
    return JointTask({"labels": Weighted(supervised, WeightConfig()), "encoder": Weighted(beside, config.encoder_weight)}), encoder


def _watch(config: FinetuneConfig, asked: Pretext, folder: Path) -> Watch | None:
    """Pictures of the encoder task, where there is one."""
    return Watch(config.pictures_every, PretextPictures(asked, folder, seed=config.schedule.seed)) if asked.encoder else None


class _Ground(NamedTuple):
    """What the workspace has for a run."""

    classes: LabelSet
    labelled: list[TileRecord]
    boxes: dict[int, Boxes]
    unlabelled: list[TileRecord]
    dev: list[TileRecord]
    dev_boxes: dict[int, Boxes]
    parent: ModelRow | None
    vocabulary: Vocabulary | None


def _ground(workspace: Workspace, config: FinetuneConfig) -> _Ground:
    """What there is to learn from, to look at, and to start from; refused where that is nothing."""
    with workspace.session(write=False) as session:
        labelled = tiles(session, split="train", reviewed=True)
        dev = tiles(session, split="dev", reviewed=True) if config.schedule.evaluate_every else []
        ground = _Ground(
            classes=label_set(session),
            labelled=labelled,
            boxes=tile_boxes(session, labelled),
            unlabelled=tiles(session, split="train", reviewed=False) if _uses_unlabelled(config) else [],
            dev=dev,
            dev_boxes=tile_boxes(session, dev),
            parent=starting_model(session, config.start),
            vocabulary=vocabulary_of(workspace, session, config.tokenizer_from),
        )
    if not any(len(known) for known in ground.boxes.values()):
        raise NothingToDo(
            f"{len(labelled)} tiles of the training ground are reviewed, with 0 boxes",
            expected="at least one box",
            remedy="Bring labels in (tilehawk labels import FILE), or rank a round and annotate it",
        )
    if config.schedule.evaluate_every and not any(len(known) for known in ground.dev_boxes.values()):
        raise NothingToDo(
            f"{len(dev)} tiles of the dev ground are reviewed, without a box, and schedule.evaluate_every asks for their AP",
            expected="at least one box",
            remedy="Bring labels of dev ground in, or set schedule.evaluate_every to 0",
        )
    require_patches(config.encoder, [*labelled, *ground.unlabelled])
    return ground


def finetune(workspace: Workspace, config: FinetuneConfig, *, progress: Progress = silent) -> TrainingReport:
    """Train a detector on every reviewed tile of the training ground.

    The same call after a crash goes on from the last checkpoint; after a finished run it finds the model and trains nothing.

    Raises:
        NothingToDo: no tile of the training ground is reviewed, or none holds a box; or dev AP is asked for without a box on dev ground; or
            the teacher of self-training finds nothing.
        BadInput: no classes yet, no such model to start from, or the name is taken.
        LabelSetMismatch: the model to start from speaks of other classes.
        UsageError: the detector is one that is asked by patches, self-training has no teacher, or the patches of the encoder task fit
            neither detector nor tiles; or what would be frozen is random.
        CheckpointRefused: the model to start from is damaged or of another architecture; or the vocabulary of ``tokenizer_from`` is
            damaged, of another workspace, or of another backbone's architecture.
    """
    if config.detector.one_shot:
        raise UsageError(
            "detector.one_shot = true in the training of a detector of known classes",
            expected="a detector that nobody asks by patches",
            remedy="Leave it out, or train the other kind: tilehawk one-shot",
        )
    with workspace.worker_lock("finetune"):
        classes, labelled, boxes, unlabelled, dev, dev_boxes, parent, vocabulary = _ground(workspace, config)
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        if stored and stored.stage == "finetune":
            classes.require_equal(stored.label_set, ours="this workspace", theirs=f"the model {stored.directory.name}")
        if config.self_training:
            _require_teacher(stored, unlabelled)
        detector = architecture(config.detector, stored, [*labelled, *dev, *unlabelled]).model_copy(update={"one_shot": False})
        identity = RunIdentity(
            stage="finetune",
            config=config.model_copy(update={"detector": detector}).model_dump(
                mode="json", exclude={"name", "cache_bytes", "pictures_every"}
            )
            | {"tokenizer_from": vocabulary.identity if vocabulary else None},
            data=data_hash([*labelled, *dev, *unlabelled], {**boxes, **dev_boxes}),
            parent=parent_identity(stored),
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
        if config.encoder:
            require_fits(config.encoder, model)
        checkpoints = run_checkpoints(workspace, identity)
        with ExitStack() as readers:

            def source(records: Sequence[TileRecord], known: dict[int, Boxes]) -> WorkspaceTiles:
                """A reader of its own for each use: batches are read by another thread than the pool, the dev tiles and pictures."""
                pixels = readers.enter_context(TilePixels(workspace))
                return WorkspaceTiles(pixels, records, known, detector.image_size, cache_bytes=config.cache_bytes // READERS)

            look = DevLook(model, source(dev, dev_boxes), dev, dev_boxes, classes) if dev else None
            known, pool = source(labelled, boxes), source(unlabelled, {})
            learned: TileSource = known
            if config.self_training and stored:
                shown = _shown_to_teacher(unlabelled, len(labelled), config.schedule)
                read = source(shown, {})
                believed = _believed(config, stored, read, shown, checkpoints.directory, identity.fingerprint, progress)
                learned = with_believed(known, source(shown, {}), believed, config.self_training)
            given = vocabulary.path if vocabulary else None
            every = Joined([(known, 1), (pool, 1)])
            tokenizer = _vocabulary(model, config, every, given, checkpoints.directory, workspace.identity, progress)
            with seeded(config.schedule.seed):
                task, encoder = _task(model, config, pool, tokenizer)
            log = run_log(workspace, identity)
            run = train(
                task,
                learned,
                config.schedule,
                checkpoints=checkpoints,
                progress=progress,
                evaluate_dev=look,
                log=log,
                watch=_watch(config, Pretext(task, known, tokenizer, encoder, patches=None), log / PICTURES),
            )
        beside = tokenizer_files(tokenizer, checkpoints.directory)
        return finish_run(
            workspace,
            model,
            identity,
            run,
            name=name,
            parent=parent,
            tiles=len(labelled),
            boxes=sum(map(len, boxes.values())),
            beside=beside,
        )
