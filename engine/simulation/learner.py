"""A detector that is fine-tuned anew in every replayed round."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from engine.boxes import Boxes
from engine.evaluation.detection import evaluate_detections
from engine.files import write_json
from engine.inference.predict import predict_tiles
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.progress import Progress
from engine.simulation.replay import Measured
from engine.training.checkpoint import CheckpointStore
from engine.training.data import Part, Relabelled, TileSource
from engine.training.detection import DetectionTask
from engine.training.loop import ScheduleConfig, train
from engine.training.schedule import uses_bf16

__all__ = ["DetectorLearner"]

SCORE_THRESHOLD, IOU_THRESHOLD, BATCH = 0.01, 0.5, 8


class DetectorLearner:
    """Fine-tunes from the same weights each time, and keeps the weights of each model in a folder.

    Args:
        build: makes the detector that every round starts from.
        tiles: the pool's pixels, tile by tile.
        tile_ids: (N,) of the pool.
        test: tiles to be measured on.
        test_boxes: their boxes.
        label_set: the classes.
        schedule: of each round.
        folder: where weights and checkpoints are kept.
        extents: width and height in pixels of each tile of the pool; None where all fill the network's square.
        test_extents: of each test tile.
    """

    def __init__(
        self,
        build: Callable[[], Detector],
        tiles: TileSource,
        tile_ids: NDArray[np.int64],
        test: TileSource,
        test_boxes: Sequence[Boxes],
        label_set: LabelSet,
        *,
        schedule: ScheduleConfig,
        folder: Path,
        extents: Sequence[tuple[int, int]] | None = None,
        test_extents: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self._build, self._tiles, self._tile_ids = build, tiles, tile_ids
        self._test, self._test_boxes, self._label_set = test, test_boxes, label_set
        self._schedule, self._folder = schedule, folder
        self._extents, self._test_extents = extents, test_extents

    def learn(self, name: str, rows: NDArray[np.int64], boxes: Sequence[Boxes], progress: Progress) -> float:
        """Make the model ``name``; after a crash from its last checkpoint, and not again once it is there."""
        path = self._path(name)
        if path.exists():
            return _looks(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        model = self._build()
        labelled = Relabelled(
            Part(self._tiles, rows),
            [torch.from_numpy(known.xyxy.astype(np.float32)) for known in boxes],
            [torch.from_numpy(known.labels) for known in boxes],
        )
        checkpoints = CheckpointStore(self._folder / f"{name}.run" / "checkpoints")
        run = train(DetectionTask(model), labelled, self._schedule, checkpoints=checkpoints, progress=progress)
        partial = path.with_suffix(".partial")
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, partial)
        said = {"tiles": len(rows), "images_seen": run.images_seen, "seconds": run.seconds, "seed": self._schedule.seed}
        write_json(path.with_suffix(".json"), said)
        partial.replace(path)
        checkpoints.remove()
        return _looks(said)

    def predict(self, name: str, progress: Progress) -> Predictions:
        """What the model ``name`` sees on the pool; looked up where it has looked before."""
        folder = self._folder / f"{name}.predictions"
        if not folder.is_dir():
            self._look(name, self._tiles, self._tile_ids, self._extents, progress).save(folder)
        return Predictions.load(folder)

    def measure(self, name: str, progress: Progress) -> Measured:
        """AP and AP50 of the model ``name`` on the test tiles."""
        found = self._look(name, self._test, np.arange(len(self._test)), self._test_extents, progress)
        pairs = [(true, found.of_tile(index)) for index, true in enumerate(self._test_boxes)]
        metrics = evaluate_detections(pairs, self._label_set)
        return Measured(metrics.ap, metrics.ap50, metrics.ap50_per_class, sum(len(true) for true in self._test_boxes))

    def forget(self, prefix: str) -> None:
        """Remove the models whose names begin with ``prefix``, and what they saw: nobody goes on from them any more."""
        for path in self._folder.glob(f"{prefix}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _path(self, name: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{name}.safetensors"

    def _look(
        self, name: str, tiles: TileSource, ids: NDArray[np.int64], extents: Sequence[tuple[int, int]] | None, progress: Progress
    ) -> Predictions:
        model = self._build()
        model.load_state_dict(load_file(self._path(name)))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(self._schedule.precision, device)):
            return predict_tiles(
                model,
                ((int(tile), tiles.sample(index).image) for index, tile in enumerate(ids)),
                len(ids),
                batch_size=BATCH,
                score_threshold=SCORE_THRESHOLD,
                iou_threshold=IOU_THRESHOLD,
                extents=extents,
                split_saturated=True,
                progress=progress,
            )


def _looks(said: Mapping[str, Any]) -> float:
    """How often a model saw each of its tiles, on average."""
    return float(said["images_seen"] / said["tiles"])
