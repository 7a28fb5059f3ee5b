"""What detectors that learned from few labels foresee on NWPU VHR-10, and what would have to be done there: the tiles of cost_model.py.

    python tests/bench/cost_tiles.py OUT.json WEIGHTS…

Needs TILEHAWK_DATA. WEIGHTS are those of detectors.py or pretraining.py, in the order of the rounds, each a .safetensors with its .json
beside it that says which images of train.json were labelled. Of the other images of train.json the file holds, by detector, the boxes that
are foreseen (sure, medium, missed) and those that the oracle verifies, edits, draws and deletes.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from nwpu import CLASSES, Picture, load, subset, without_dev
from safetensors.torch import load_file

from engine.boxes import Boxes
from engine.files import write_json
from engine.inference.predict import predict_tiles
from engine.inference.predictions import Predictions
from engine.models.detector import Detector
from engine.models.presets import PRESETS
from engine.progress import silent
from engine.selection.config import SelectionConfig
from engine.selection.cost import CostConfig, Prices, estimate_costs
from engine.selection.detections import Detections, keep_objects
from engine.simulation.oracle import charge, shown_boxes
from engine.stages.predict import PredictConfig

COST, PREDICT, SELECTION = CostConfig(), PredictConfig(), SelectionConfig()


def unseen(pictures: list[Picture], document: dict[str, object]) -> list[Picture]:
    """The pictures from which the detector of ``document`` has not learned."""
    pool = without_dev(pictures)[0] if document.get("dev", True) else pictures
    labelled = {each.image_id for each in subset(pool, float(str(document["fraction"])), int(str(document["draw"])))}
    return [each for each in pictures if each.image_id not in labelled]


def predicted(weights: Path, pictures: list[Picture]) -> Predictions:
    model = Detector(PRESETS["nano"].model_copy(update={"backbone_weights": "none"}), CLASSES)
    model.load_state_dict(load_file(weights))
    tiles = ((index, picture.pixels) for index, picture in enumerate(pictures))
    return predict_tiles(
        model.eval(),
        tiles,
        len(pictures),
        batch_size=PREDICT.batch_size,
        score_threshold=PREDICT.score_threshold,
        iou_threshold=PREDICT.iou_threshold,
        progress=silent,
    )


def counts(pictures: list[Picture], found: Predictions) -> dict[str, list[float]]:
    """By name, one number a picture."""
    raw = Detections(found.tile_index, found.boxes_tile.astype(np.float64), found.class_scores.astype(np.float64))
    kept = keep_objects(raw, SELECTION.objects)
    costs = estimate_costs(kept.tile_index, kept.scores, len(pictures), Prices(), COST)
    rows: dict[str, list[float]] = {name: getattr(costs, name).round(2).tolist() for name in ("sure", "medium", "missed")}
    for name in ("verified", "edited", "drawn", "deleted"):
        rows[name] = []
    for index, picture in enumerate(pictures):
        true = Boxes(picture.boxes.numpy().astype(np.float64), picture.labels.numpy())
        visit = charge(true, shown_boxes(found.of_tile(index), Boxes.empty(), COST.shown_score), Prices())
        for name in ("verified", "edited", "drawn", "deleted"):
            rows[name].append(getattr(visit, name))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pictures = load("train", PRESETS["nano"].image_size)
    detectors = []
    for weights in options.weights:
        document = json.loads(weights.with_suffix(".json").read_text())
        fresh = unseen(pictures, document)
        said = {name: document[name] for name in ("images", "images_seen", "fraction", "draw", "AP50")}
        detectors.append({**said, "tiles": [each.image_id for each in fresh], "counts": counts(fresh, predicted(weights, fresh))})
    write_json(options.out, {"detectors": detectors})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
