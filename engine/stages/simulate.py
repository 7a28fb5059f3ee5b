"""``simulate``: which strategy fits this imagery, by budgets replayed on the labels that are there."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field, NonNegativeInt, field_validator

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE, label_set, scene_boxes, tile_boxes
from engine.catalog.models import model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.starting import architecture, parent_identity, starting_model
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.training import data_hash
from engine.catalog.weights import new_detector
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.files import write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector, DetectorConfig
from engine.models.store import StoredModel, read_model, start_from
from engine.progress import Progress, silent
from engine.selection.config import Strategy
from engine.simulation.curves import Comparison, compare, read_curves
from engine.simulation.learner import DetectorLearner
from engine.simulation.picture import draw_comparison
from engine.simulation.pool import LabelledPool, object_numbers
from engine.simulation.replay import CHARGING, Measured, ReplayConfig, replay, replay_all_labels
from engine.training.loop import ScheduleConfig, seeded

__all__ = ["ShareResult", "SimulateConfig", "SimulationReport", "StrategyResult", "simulate"]

CONTROL: Strategy = "random"


class SimulateConfig(StageConfig):
    """Which strategies are held against chance, on what budgets."""

    strategies: tuple[Strategy, ...] = ("tilehawk", "k-center")
    """Beside the control, which is always replayed."""
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    """One replay of each strategy a seed; intervals need two."""
    replay: ReplayConfig = ReplayConfig()
    """The budgets, and how tiles are chosen."""
    start: str | None = None
    """The model that every round starts from; none for the newest pre-trained one, "scratch" for the backbone's weights alone."""
    schedule: ScheduleConfig = ScheduleConfig(images_seen=1000)
    """How long a detector learns in a round."""
    detector: DetectorConfig = DetectorConfig()
    """The architecture; what is not stated is as in the model to start from."""
    all_labels: bool = True
    """Learn from all labels too: what there is to be reached."""
    cache_bytes: int = Field(default=2**31, ge=0)
    """Memory for decoded tiles."""

    @field_validator("seeds", "strategies")
    @classmethod
    def _something(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("at least one, and none twice")
        return value


@dataclass(frozen=True)
class StrategyResult:
    """A strategy: mean AP50 after the last budget, seconds to the control's, and their ratio to the control's own; None where not reached.

    A control that learns nothing from its last budgets is counted from where it first was there. ``ratio_low`` and ``ratio_high``: 95 %
    interval of the ratios of single seeds; None with one seed, or where one falls short.
    """

    strategy: str
    final_ap50: float
    seconds_to_control: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


@dataclass(frozen=True)
class ShareResult:
    """Seconds in which a strategy is at a share of the AP50 that all labels give: mean and 95 % interval over seeds.

    No number where seeds ``short`` of it ended, and no interval with one seed.
    """

    share: str
    strategy: str
    seconds: float | None
    low: float | None
    high: float | None
    short: int


@dataclass(frozen=True)
class SimulationReport:
    """What the replays say, best strategy first; ``comparison`` has it all, the curves with their intervals too, ``picture`` their picture.

    ``best``: None where no strategy could be told from the control over the seeds; ``ratio_at``: the ratio of each strategy by the seconds
    that drawing a box takes, all else as priced; ``to_share`` is empty where no model learned from all labels.
    """

    strategies: tuple[StrategyResult, ...]
    best: str | None
    to_share: tuple[ShareResult, ...]
    ratio_at: dict[str, dict[str, float | None]]
    control_ap50: float
    all_labels_ap50: float | None
    tiles: int
    boxes: int
    measured_on: int
    replays: int
    file: str
    comparison: str
    picture: str


def simulate(workspace: Workspace, config: SimulateConfig, *, progress: Progress = silent) -> SimulationReport:
    """Replay budgets on the reviewed tiles of the training ground, as if nobody had labelled them; models are measured on dev ground.

    The same call goes on where an earlier one was stopped, in the middle of a round too. Nothing of the workspace changes but the files
    of the simulation.

    Raises:
        NothingToDo: too few labels: no reviewed tile with a box on train or on dev ground, or a budget that pays for no tile.
        BadInput: no classes yet, or no such model to start from.
        CheckpointRefused: the model to start from is damaged or of another architecture.
    """
    with workspace.worker_lock("simulate"):
        with workspace.session(write=False) as session:
            classes = label_set(session)
            train, dev = (tiles(session, split=split, reviewed=True) for split in ("train", "dev"))
            boxes = tile_boxes(session, [*train, *dev])
            whole = {scene: scene_boxes(session, scene) for scene in {tile.scene_id for tile in train}}
            parent = starting_model(session, config.start)
        _require_labels(train, dev, boxes)
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        detector = architecture(config.detector, stored, [*train, *dev]).model_copy(update={"one_shot": False})
        folder = _folder(workspace, config, detector, stored, data_hash([*train, *dev], boxes))
        pool = _pool(train, boxes, whole, classes)
        with ExitStack() as readers:

            def source(records: list[TileRecord]) -> WorkspaceTiles:
                pixels = readers.enter_context(TilePixels(workspace))
                return WorkspaceTiles(pixels, records, {}, detector.image_size, cache_bytes=config.cache_bytes // 2)

            learner = DetectorLearner(
                partial(_start, workspace, detector, classes, stored, config.schedule.seed),
                source(train),
                pool.tile_ids,
                source(dev),
                [boxes[tile.id] for tile in dev],
                classes,
                schedule=config.schedule,
                folder=folder / "models",
                extents=[(tile.window.width, tile.window.height) for tile in train],
                test_extents=[(tile.window.width, tile.window.height) for tile in dev],
            )
            full = _replays(pool, learner, config, folder, progress)
        full_ap50 = None if full is None else full.ap50
        curves = read_curves(folder)
        comparison = compare(curves, control=CONTROL, full_ap50=full_ap50, prices=config.replay.selection.prices)
        write_json(folder / "comparison.json", {**asdict(comparison), "best": comparison.best, "full_ap50": full_ap50})
        draw_comparison(comparison, folder / "curves.png", full_ap50=full_ap50)
        with workspace.session() as session:
            ledger.record(session, "simulate", folder=folder.name, tiles=len(train), config=config.model_dump(mode="json"))
        return _report(workspace, comparison, full_ap50, pool, len(dev), len(curves), folder)


def _pool(train: list[TileRecord], boxes: dict[int, Boxes], whole: dict[int, Boxes], classes: LabelSet) -> LabelledPool:
    """The tiles with their objects; ``whole``: the boxes of their scenes."""
    scene_ids = np.asarray([tile.scene_id for tile in train])
    windows = np.asarray([tile.window.xyxy for tile in train], dtype=np.float64)
    objects = object_numbers(scene_ids, windows, whole, MINIMUM_VISIBLE_SHARE)
    return LabelledPool(np.asarray([tile.id for tile in train]), scene_ids, windows, [boxes[tile.id] for tile in train], classes, objects)


def _require_labels(train: list[TileRecord], dev: list[TileRecord], boxes: dict[int, Boxes]) -> None:
    for name, records in (("train", train), ("dev", dev)):
        count = sum(len(boxes[tile.id]) for tile in records)
        if not count:
            raise NothingToDo(
                f"{len(records)} tiles of {name} ground are reviewed, with {count} boxes",
                expected="labels on train ground to be replayed, and on dev ground to be measured on",
                remedy="Bring labels in: tilehawk labels import FILE",
            )


def _folder(workspace: Workspace, config: SimulateConfig, detector: DetectorConfig, stored: StoredModel | None, data: str) -> Path:
    """One folder for what is learned from the same tiles with the same settings; strategies and seeds may be added to it."""
    said = config.model_copy(update={"detector": detector}).model_dump(
        mode="json", exclude={"strategies", "seeds", "all_labels", "cache_bytes"}
    )
    identity = json.dumps([said, data, parent_identity(stored), CHARGING], sort_keys=True)
    return workspace.reports / "simulations" / hashlib.sha256(identity.encode()).hexdigest()[:12]


def _start(workspace: Workspace, detector: DetectorConfig, classes: LabelSet, stored: StoredModel | None, seed: int) -> Detector:
    with seeded(seed):
        model = new_detector(workspace, detector, len(classes))
    if stored:
        start_from(model, stored.directory)
    return model


def _replays(pool: LabelledPool, learner: DetectorLearner, config: SimulateConfig, folder: Path, progress: Progress) -> Measured | None:
    """All replays, and what is learned from all labels; of the models only those of the first rounds are kept, for other strategies."""
    strategies = dict.fromkeys((CONTROL, *config.strategies))
    cells = [(strategy, seed) for seed in config.seeds for strategy in strategies]
    for place, (strategy, seed) in enumerate(cells):
        told = partial(_told, progress, f"replay {place + 1} of {len(cells)}, {strategy} {seed}")
        replay(pool, learner, config.replay, strategy, seed, folder / f"{strategy}-{seed}.json", progress=told)
        learner.forget(f"{strategy}-{seed}-")
    if not config.all_labels:
        return None
    told = partial(_told, progress, "all labels")
    return replay_all_labels(pool, learner, 0, folder / "all-0.json", prices=config.replay.selection.prices, progress=told)


def _told(progress: Progress, where: str, done: int, total: int, message: str) -> None:
    progress(done, total, f"{where}: {message}")


def _report(
    workspace: Workspace, comparison: Comparison, full_ap50: float | None, pool: LabelledPool, dev: int, replays: int, folder: Path
) -> SimulationReport:
    results = sorted(
        (
            StrategyResult(
                name, round(ap50, 4), comparison.to_target[name], comparison.ratio[name], *_ends(comparison.ratio_interval[name])
            )
            for name, ap50 in comparison.final.items()
        ),
        key=lambda each: (each.ratio is None, each.ratio or 0.0, -each.final_ap50),
    )
    picture = folder / "curves.png"
    return SimulationReport(
        strategies=tuple(results),
        best=comparison.best,
        to_share=tuple(
            ShareResult(share, name, reached.mean, *_ends(reached.interval), reached.short)
            for share, by_strategy in comparison.to_share.items()
            for name, reached in by_strategy.items()
        ),
        ratio_at=comparison.ratio_at,
        control_ap50=comparison.target,
        all_labels_ap50=full_ap50,
        tiles=len(pool),
        boxes=pool.boxes,
        measured_on=dev,
        replays=replays,
        file=str(folder.relative_to(workspace.root)),
        comparison=str((folder / "comparison.json").relative_to(workspace.root)),
        picture=str(picture.relative_to(workspace.root)),
    )


def _ends(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else interval
