"""``simulate``: which strategy fits this imagery, by budgets replayed on the labels that are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field, NonNegativeInt, field_validator

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE, label_set, scene_boxes, tile_boxes
from engine.catalog.chance import drawn_by_chance
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
from engine.simulation.comparison import Comparison, read_comparison
from engine.simulation.curves import read_curves
from engine.simulation.learner import DetectorLearner
from engine.simulation.picture import draw_comparison, draw_seeds
from engine.simulation.pool import LabelledPool, object_numbers
from engine.simulation.replay import CHARGING, ReplayConfig, replay, replay_all_labels
from engine.training.loop import ScheduleConfig, seeded

__all__ = ["ReplayScheduleConfig", "ShareResult", "SimulateConfig", "SimulationReport", "StrategyResult", "simulate"]

CONTROL: Strategy = "random"
LEAST_BY_CHANCE = 0.5
"""Share of the tiles below which a warning is due that chance here is none."""
COMPARISON, CURVES, SEEDS = "comparison.json", "curves.png", "seeds.png"


class ReplayScheduleConfig(ScheduleConfig):
    """How long a detector learns in a round of a replay."""

    images_seen: int | None = Field(default=1000, ge=1)
    """Source images that enter a forward pass in all, where ``passes`` does not ask for more; None as in ScheduleConfig."""
    passes: float = Field(default=4.0, ge=0)
    """Each labelled tile is seen so often at least, as in a round that is no replay. Up to 250 tiles that costs nothing beside the 1,000
    images; a shorter look at more of them would say what short training gives and not what labels do, and all labels in particular would
    be worth so little that every strategy is soon there. 4 times 3,000 tiles of 192 px take a core about 20 minutes."""


class SimulateConfig(StageConfig):
    """Which strategies are held against chance, on what budgets."""

    strategies: tuple[Strategy, ...] = ("tilehawk", "k-center")
    """Beside the control, which is always replayed."""
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    """One replay of each strategy a seed, with first weights and order of training of its own, the same for all strategies; intervals need
    two."""
    replay: ReplayConfig = ReplayConfig()
    """The budgets, and how tiles are chosen."""
    start: str | None = None
    """The model that every round starts from; none for the newest pre-trained one, "scratch" for the backbone's weights alone."""
    schedule: ReplayScheduleConfig = ReplayScheduleConfig()
    """How long a detector learns in a round."""
    detector: DetectorConfig = DetectorConfig()
    """The architecture; what is not stated is as in the model to start from."""
    all_labels: bool = True
    """Learn from all labels too, with the schedule of the rounds: what there is to be reached."""
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
    interval of the ratios of single seeds; None with one seed, or where one falls short. ``p_value``: two-sided, that single seeds are as
    quick as the control, corrected for how many strategies are held against it (Holm).
    """

    strategy: str
    final_ap50: float
    seconds_to_control: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    p_value: float | None


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
    """What the replays say, best strategy first; ``comparison`` has it all, the curves with their intervals too.

    ``picture``: the curves; ``seeds_picture``: a box plot of the seeds after each round. ``best``: None where no strategy could be
    told from the control over the seeds, all comparisons counted; ``ratio_at``: the ratio of each strategy by the seconds that drawing a
    box takes, all else as priced; ``ratio_in``: what each strategy spends to be where the control ends, to what the control does, in
    seconds, boxes and tiles; ``all_labels_looks``: how often the model of all labels saw each tile; ``to_share`` is empty where no model
    learned from all labels, or ``shares_left_out`` says why it does not count. ``by_chance``: of ``tiles``, those that are known
    to have been drawn by chance or told of by a label file; ``caution``: what follows where that is less than half of them.
    """

    strategies: tuple[StrategyResult, ...]
    best: str | None
    to_share: tuple[ShareResult, ...]
    ratio_at: dict[str, dict[str, float | None]]
    ratio_in: dict[str, dict[str, float | None]]
    control_ap50: float
    all_labels_ap50: float | None
    all_labels_looks: float | None
    shares_left_out: str | None
    tiles: int
    by_chance: int
    caution: str | None
    boxes: int
    measured_on: int
    replays: int
    file: str
    comparison: str
    picture: str
    seeds_picture: str


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
            by_chance = len(drawn_by_chance(session, [tile.id for tile in train]))
        _require_labels(train, dev, boxes)
        stored = read_model(model_directory(workspace, parent.name)) if parent else None
        detector = architecture(config.detector, stored, [*train, *dev]).model_copy(update={"one_shot": False})
        folder = _folder(workspace, config, detector, stored, data_hash([*train, *dev], boxes))
        pool = _pool(train, boxes, whole, classes)
        with ExitStack() as readers:

            def source(records: list[TileRecord]) -> WorkspaceTiles:
                pixels = readers.enter_context(TilePixels(workspace))
                return WorkspaceTiles(pixels, records, {}, detector.image_size, cache_bytes=config.cache_bytes // 2)

            pixels_of_pool, pixels_of_dev = source(train), source(dev)

            def learner(seed: int) -> DetectorLearner:
                schedule = config.schedule.model_copy(update={"seed": config.schedule.seed + seed})
                return DetectorLearner(
                    partial(_start, workspace, detector, classes, stored, schedule.seed),
                    pixels_of_pool,
                    pool.tile_ids,
                    pixels_of_dev,
                    [boxes[tile.id] for tile in dev],
                    classes,
                    schedule=schedule,
                    folder=folder / "models",
                    extents=[(tile.window.width, tile.window.height) for tile in train],
                    test_extents=[(tile.window.width, tile.window.height) for tile in dev],
                )

            _replays(pool, learner, config, folder, progress)
        curves, comparison = read_curves(folder), read_comparison(folder, control=CONTROL)
        caution = _caution(by_chance, len(train))
        said = {"best": comparison.best, "shares_left_out": comparison.shares_left_out, "by_chance": by_chance, "caution": caution}
        write_json(folder / COMPARISON, {**asdict(comparison), **said})
        draw_comparison(comparison, folder / CURVES)
        draw_seeds(curves, folder / SEEDS)
        with workspace.session() as session:
            ledger.record(session, "simulate", folder=folder.name, tiles=len(train), config=config.model_dump(mode="json"))
        return _report(workspace, comparison, pool, len(dev), len(curves), folder, by_chance)


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


def _replays(
    pool: LabelledPool, learner: Callable[[int], DetectorLearner], config: SimulateConfig, folder: Path, progress: Progress
) -> None:
    """All replays, and what is learned from all labels; of the models only those of the first rounds are kept, for other strategies.

    ``learner``: that of a seed.
    """
    strategies = dict.fromkeys((CONTROL, *config.strategies))
    cells = [(strategy, seed) for seed in config.seeds for strategy in strategies]
    for place, (strategy, seed) in enumerate(cells):
        told = partial(_told, progress, f"replay {place + 1} of {len(cells)}, {strategy} {seed}")
        of_seed = learner(seed)
        replay(pool, of_seed, config.replay, strategy, seed, folder / f"{strategy}-{seed}.json", progress=told)
        of_seed.forget(f"{strategy}-{seed}-")
    if config.all_labels:
        told = partial(_told, progress, "all labels")
        replay_all_labels(pool, learner(0), 0, folder / "all-0.json", prices=config.replay.selection.prices, progress=told)


def _caution(by_chance: int, tiles: int) -> str | None:
    """What has to be said of a pool most of which was chosen; None where it was not."""
    if by_chance >= LEAST_BY_CHANCE * tiles:
        return None
    return (
        f"of the {tiles} labelled tiles {by_chance} are known to have been drawn by chance or imported; the others were chosen, so that "
        "random draws from chosen tiles here, and not from the archive: what choosing saves there is not shown by this"
    )


def _told(progress: Progress, where: str, done: int, total: int, message: str) -> None:
    progress(done, total, f"{where}: {message}")


def _report(
    workspace: Workspace, comparison: Comparison, pool: LabelledPool, dev: int, replays: int, folder: Path, by_chance: int
) -> SimulationReport:
    results = sorted(
        (
            StrategyResult(
                name,
                round(ap50, 4),
                comparison.to_target[name],
                comparison.ratio[name],
                *_ends(comparison.ratio_interval[name]),
                comparison.p_value[name],
            )
            for name, ap50 in comparison.final.items()
        ),
        key=lambda each: (each.ratio is None, each.ratio or 0.0, -each.final_ap50),
    )
    return SimulationReport(
        strategies=tuple(results),
        best=comparison.best,
        to_share=tuple(
            ShareResult(share, name, reached.mean, *_ends(reached.interval), reached.short)
            for share, by_strategy in comparison.to_share.items()
            for name, reached in by_strategy.items()
        ),
        ratio_at=comparison.ratio_at,
        ratio_in={unit: axis.ratio for unit, axis in comparison.axes.items()},
        control_ap50=comparison.target,
        all_labels_ap50=comparison.full_ap50,
        all_labels_looks=comparison.full_looks,
        shares_left_out=comparison.shares_left_out,
        tiles=len(pool),
        by_chance=by_chance,
        caution=_caution(by_chance, len(pool)),
        boxes=pool.boxes,
        measured_on=dev,
        replays=replays,
        file=str(folder.relative_to(workspace.root)),
        comparison=str((folder / COMPARISON).relative_to(workspace.root)),
        picture=str((folder / CURVES).relative_to(workspace.root)),
        seeds_picture=str((folder / SEEDS).relative_to(workspace.root)),
    )


def _ends(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else interval
