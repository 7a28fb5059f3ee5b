"""The whole loop on real imagery: archive in; three rounds under a budget; detector, GIS layer and pictures out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from app.wiring import read_labels, write_layers
from app.workflows.demo_data import GEOTIFF, DemoInput, demo_input
from engine.boxes import Boxes
from engine.catalog.annotations import tile_boxes
from engine.catalog.pixels import TilePixels
from engine.catalog.predictions import predictions_directory
from engine.catalog.rounds import rounds
from engine.catalog.tiles import tiles
from engine.catalog.training import TrainingReport, stored_report
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.evaluation.drawing import CurvePoint, contact_sheet, draw_boxes, learning_curve
from engine.imagery.raster import Raster
from engine.inference.predictions import Predictions
from engine.models.presets import PRESETS
from engine.progress import Progress
from engine.records import SceneDetections, Window
from engine.stages.detect import DetectConfig, detect
from engine.stages.evaluate import EvaluateConfig, evaluate
from engine.stages.export import ExportConfig, ExportReport, export
from engine.stages.finetune import FinetuneConfig, finetune
from engine.stages.ingest import IngestConfig, IngestReport, ingest
from engine.stages.labels import LabelConfig, import_labels
from engine.stages.oracle import OracleConfig, consult_oracle
from engine.stages.predict import PredictConfig, predict
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.stages.rank import RankConfig, rank
from engine.training.loop import ScheduleConfig
from engine.training.schedule import PretrainScheduleConfig

__all__ = ["DemoConfig", "DemoReport", "DemoRound", "run_demo"]

PRETRAINED = "pretrained"
SHOWN_SCORE = 0.3


class DemoConfig(StageConfig):
    """How much of everything."""

    rounds: int = Field(default=3, ge=1)
    """Rounds of ranking, annotating and training."""
    minutes: float = Field(default=25.0, gt=0)
    """Annotator minutes a round may cost; the oracle charges for them."""
    strategy: str = "tilehawk"
    """How tiles are ranked."""
    pretrain_images: int = Field(default=480, ge=1)
    """Images seen in pre-training."""
    finetune_images: int = Field(default=700, ge=1)
    """Images seen in the fine-tuning of each round."""
    tile: int = Field(default=256, ge=64, multiple_of=32)
    """Side of a tile in pixels."""
    overlap: int = Field(default=32, ge=0)
    """Pixels that neighbouring tiles share."""
    seed: int = Field(default=0, ge=0)
    """Decides everything that chance decides."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's own choice."""


@dataclass(frozen=True)
class DemoRound:
    """What one round cost and brought. Counts and seconds are of this round alone, AP is after it."""

    round: int
    tiles: int
    boxes: int
    seconds: float
    estimated_seconds: float
    ap: float
    ap50: float
    training_seconds: float


@dataclass(frozen=True)
class DemoReport:
    """Everything that the demo made."""

    rounds: list[DemoRound]
    workspace: Path
    export: Path
    parity: float
    scene_boxes: int
    files: dict[str, Path]
    seconds: dict[str, float]
    """wall time of each stage"""
    next: str


class _Demo:
    """The flow, step by step; each step finds out by itself whether it was done before."""

    def __init__(self, out: Path, config: DemoConfig, say: Callable[[str], None], progress: Progress) -> None:
        self.out, self.config, self.say, self.progress = out, config, say, progress
        self.seconds: dict[str, float] = {}
        detector = PRESETS["nano"].model_copy(update={"image_size": config.tile})
        common = {"seed": config.seed, "threads": config.threads}
        self.pretrain_config = PretrainConfig(
            name=PRETRAINED, detector=detector, schedule=PretrainScheduleConfig(images_seen=config.pretrain_images, **common)
        )
        self.finetune_schedule = ScheduleConfig(images_seen=config.finetune_images, **common)
        self.detector = detector

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began, 1)

    def fill(self, workspace: Workspace, given: DemoInput) -> IngestReport:
        with self.timed("ingest"):
            taken = ingest(
                workspace, given.archive, IngestConfig(tile=self.config.tile, overlap=self.config.overlap), progress=self.progress
            )
            import_labels(
                workspace,
                read_labels(given.labels),
                LabelConfig(withhold=True, class_map={"Alive": "Tree", "Dead": "Tree"}),
                progress=self.progress,
            )
        return taken

    def predict(self, workspace: Workspace, model: str, split: str) -> None:
        with self.timed("predict"):
            wanted = PredictConfig.from_mapping({"model": model, "split": split, "threads": self.config.threads})
            predict(workspace, wanted, progress=self.progress)

    def round(self, workspace: Workspace, number: int, model: str) -> DemoRound:
        """One cycle; ``model`` is the one whose predictions rank the tiles."""
        with workspace.session(write=False) as session:
            known = [row.number for row in rounds(session)]
        ranked, overtaken = number in known, any(other > number for other in known)
        if not ranked:
            self.predict(workspace, model, "train")
            with self.timed("rank"):
                budget = RankConfig.from_mapping(
                    {"budget_seconds": 60 * self.config.minutes, "strategy": self.config.strategy, "seed": self.config.seed}
                )
                rank(workspace, budget, progress=self.progress)
        spent = consult_oracle(workspace, OracleConfig(round=number), progress=self.progress)
        with self.timed("finetune"):
            trained = self.trained(workspace, number, model, overtaken=overtaken)
        self.predict(workspace, trained.model, "test")
        with self.timed("evaluate"):
            measured = evaluate(workspace, EvaluateConfig(model=trained.model, split="test"), progress=self.progress).metrics
        return DemoRound(
            round=number,
            tiles=spent.tiles,
            boxes=spent.boxes,
            seconds=spent.seconds,
            estimated_seconds=spent.estimated_seconds,
            ap=measured.ap,
            ap50=measured.ap50,
            training_seconds=trained.seconds,
        )

    def trained(self, workspace: Workspace, number: int, start: str, *, overtaken: bool) -> TrainingReport:
        """The model of a round; of one that a later round has ``overtaken`` it is there, and more is labelled than it learned from."""
        name = f"round-{number}"
        if overtaken:
            with workspace.session(write=False) as session:
                return stored_report(session, name)
        return finetune(
            workspace,
            FinetuneConfig(name=name, start=start, schedule=self.finetune_schedule, detector=self.detector),
            progress=self.progress,
        )

    def deliver(self, workspace: Workspace, given: DemoInput, model: str) -> tuple[ExportReport, SceneDetections, dict[str, Path]]:
        with self.timed("export"):
            exported = export(workspace, ExportConfig(model=model, threads=self.config.threads), progress=self.progress)
        with self.timed("detect"):
            threads = self.config.threads or None
            found = detect(
                workspace.exports / exported.export,
                given.geotiff,
                DetectConfig(score_threshold=SHOWN_SCORE, threads=threads, device="cpu"),
                progress=self.progress,
            )
            files = write_layers(found, self.out / "layers", ["gpkg", "geojson", "coco"])
        return exported, found, files

    def draw(self, workspace: Workspace, done: list[DemoRound], given: DemoInput, found: SceneDetections, model: str) -> dict[str, Path]:
        curve, sheet = self.out / "learning-curve.png", self.out / "detections.png"
        spent = np.cumsum([each.seconds for each in done]) / 60
        learning_curve([CurvePoint(float(minutes), each.ap, each.ap50) for minutes, each in zip(spent, done, strict=True)], curve)
        with workspace.session(write=False) as session:
            held_out = tiles(session, split="test", reviewed=True)
            truth = tile_boxes(session, held_out)
        seen = Predictions.load(predictions_directory(workspace, f"{model}-test"))
        crowded = sorted(held_out, key=lambda tile: (-len(truth[tile.id]), tile.id))[:11]
        with Raster(given.geotiff) as scene:
            whole = scene.read(Window(0, 0, found.width, found.height))
        pictures = [(f"{GEOTIFF}: {len(found.boxes_scene)} found by the exported model", draw_boxes(whole, found.boxes_scene))]
        with TilePixels(workspace) as pixels:
            for tile in crowded:
                shown = _above(seen.of_tile(tile.id), SHOWN_SCORE)
                picture = draw_boxes(pixels.read(tile), shown, truth[tile.id])
                pictures.append((f"test tile {tile.id}: {len(shown)} found, {len(truth[tile.id])} there (dashed)", picture))
        contact_sheet(pictures, sheet, columns=4, cell=self.config.tile + 64)
        return {"learning_curve": curve, "detections": sheet}


def _above(boxes: Boxes, score: float) -> Boxes:
    assert boxes.scores is not None
    return boxes.take(boxes.scores >= score)


TABLE_HEAD = f"{'round':>5}  {'tiles':>5}  {'boxes':>5}  {'seconds':>7}  {'AP':>5}  {'AP50':>5}"


def _row(each: DemoRound) -> str:
    return f"{each.round:>5}  {each.tiles:>5}  {each.boxes:>5}  {each.seconds:>7.0f}  {each.ap:>5.3f}  {each.ap50:>5.3f}"


def run_demo(out: Path, config: DemoConfig, *, say: Callable[[str], None], progress: Progress) -> DemoReport:
    """Run the loop in ``out``; the same call after a crash goes on where it was.

    Args:
        out: folder for the input, the workspace, the layers and the pictures.
        config: how much of everything.
        say: gets each line meant for people, as it comes.
        progress: of the stages.

    Raises:
        BadInput: the demo's data package is not installed.
    """
    given = demo_input(out / "input")
    demo = _Demo(out, config, say, progress)
    with Workspace.create(out / "workspace") as workspace:
        taken = demo.fill(workspace, given)
        split = ", ".join(f"{count} {name}" for name, count in taken.tiles_by_split.items())
        say(f"Ingested {given.archive.name}: tiles by split: {split}. Labels on training ground are withheld: rounds must pay for them.")
        with demo.timed("pretrain"):
            learned = pretrain(workspace, demo.pretrain_config, progress=progress)
        say(f"Pre-trained without labels on {learned.tiles} tiles: loss {learned.first_loss:.2f} → {learned.last_loss:.2f}.")
        say(f"{config.rounds} rounds of {config.minutes:g} annotator minutes, measured on held-out ground:")
        say(TABLE_HEAD)
        done: list[DemoRound] = []
        model = PRETRAINED
        for number in range(1, config.rounds + 1):
            done.append(demo.round(workspace, number, model))
            model = f"round-{number}"
            say(_row(done[-1]))
        exported, found, layers = demo.deliver(workspace, given, model)
        say(f"Exported {model} to ONNX; largest difference to torch {exported.parity.worst:.1e}.")
        say(f"Searched {GEOTIFF} with it: {len(found.boxes_scene)} trees.")
        files = {**layers, **demo.draw(workspace, done, given, found, model)}
        for name, file in files.items():
            say(f"  {name:<15} {file}")
        return DemoReport(
            rounds=done,
            workspace=workspace.root,
            export=workspace.exports / exported.export,
            parity=exported.parity.worst,
            scene_boxes=len(found.boxes_scene),
            files=files,
            seconds=demo.seconds,
            next=f"tilehawk app --workspace {workspace.root}",
        )
