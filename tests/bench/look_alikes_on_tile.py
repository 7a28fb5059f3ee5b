"""How alike is alike enough: look-alikes of a drawn box on its own tile, by frozen features, on NWPU VHR-10.

    python tests/bench/look_alikes_on_tile.py OUT.json [--queries 60] [--seed 0] [--threads 1] [--work FOLDER]

Needs TILEHAWK_DATA. Queries are boxes of train.json's images that show two objects or more of the box's class; the model is the packaged
backbone, not trained further, and the mean that is taken off is that of the tile itself, as on the first day of a workspace. An answer is
right where it overlaps a box of the query's class, that no better answer took, by IoU 0.3. For thresholds of 0 to 1 the sheet has
precision, recall and their harmonic mean over all queries; the best of these is the default of ``SuggestConfig.likeness``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loop_nwpu import SIDE, shrink

from app.wiring import read_labels
from engine.boxes import Boxes, box_iou
from engine.catalog.annotations import tile_boxes
from engine.catalog.models import add_model, model_directory
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.files import write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.presets import PRESETS
from engine.models.store import save_model
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels
from engine.stages.suggest import SuggestConfig, TileSuggestions

RIGHT_IOU = 0.3
THRESHOLDS = [round(step * 0.05, 2) for step in range(21)]


def prepare(folder: Path) -> Workspace:
    shrink(Path(os.environ["TILEHAWK_DATA"]) / "nwpu_vhr10", folder / "input")
    workspace = Workspace.create(folder / "workspace")
    ingest(
        workspace,
        folder / "input" / "train.zip",
        IngestConfig.from_mapping({"tile": SIDE, "ground": "train", "minimum_valid_share": 0.0}),
    )
    import_labels(workspace, read_labels(folder / "input" / "train.json"), LabelConfig(allow_unknown_images=True))
    model = Detector(PRESETS["nano"].model_copy(update={"image_size": SIDE}), 0)
    save_model(model_directory(workspace, "frozen"), model, stage="pretrain", label_set=LabelSet(()), metrics={}, provenance={})
    with workspace.session() as session:
        add_model(session, name="frozen", stage="pretrain", config={}, data_hash="0")
    return workspace


def questions(workspace: Workspace, count: int, seed: int) -> list[tuple[TileRecord, Boxes, int]]:
    """(tile, its boxes, index of the drawn one), shuffled."""
    with workspace.session(write=False) as session:
        known = tiles(session)
        boxes = tile_boxes(session, known)
    several = [
        (tile, boxes[tile.id], index)
        for tile in known
        for index, label in enumerate(boxes[tile.id].labels)
        if (boxes[tile.id].labels == label).sum() > 1
    ]
    order = np.random.default_rng(seed).permutation(len(several))[:count]
    return [several[index] for index in order]


def judged(found: Boxes, truth: Boxes, drawn: int) -> tuple[list[float], list[bool], int]:
    """Scores, whether each is right, and how many there were to find."""
    others = np.flatnonzero((truth.labels == truth.labels[drawn]) & (np.arange(len(truth)) != drawn))
    overlap = box_iou(found.xyxy, truth.xyxy[others])
    right = []
    for index in range(len(found)):
        best = int(overlap[index].argmax())
        right.append(bool(overlap[index, best] >= RIGHT_IOU))
        if right[-1]:
            overlap[:, best] = 0
    assert found.scores is not None
    return found.scores.tolist(), right, len(others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder, prepare(Path(folder)) as workspace:
        suggestions, answers = TileSuggestions(workspace, SuggestConfig(likeness=0.0)), []
        for number, (tile, truth, drawn) in enumerate(questions(workspace, arguments.queries, arguments.seed)):
            found = suggestions.look_alikes(tile.id, truth.take(np.array([drawn])))
            assert found is not None
            answers.append(judged(found.boxes_tile, truth, drawn))
            print(f"{number + 1}/{arguments.queries}", file=sys.stderr, flush=True)
    chosen = {name: getattr(arguments, name) for name in ("queries", "seed", "threads")}
    write_json(arguments.out, {"options": chosen, "default": SuggestConfig().likeness, "sheet": sheet(answers), "answers": answers})


def sheet(answers: list[tuple[list[float], list[bool], int]]) -> list[dict[str, Any]]:
    there = sum(count for _, _, count in answers)
    rows = []
    for least in THRESHOLDS:
        kept = [hit for scores, right, _ in answers for score, hit in zip(scores, right, strict=True) if score >= least]
        precision, recall = sum(kept) / max(len(kept), 1), sum(kept) / there
        mean = 2 * precision * recall / max(precision + recall, 1e-9)
        rows.append({"likeness": least, "answers": len(kept), "precision": precision, "recall": recall, "harmonic_mean": mean})
    return rows


if __name__ == "__main__":
    main()
