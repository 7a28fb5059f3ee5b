"""A workspace whose labels are known in full: withheld on train ground, open on test ground; and predictions on it, without a model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from engine.boxes import Boxes
from engine.catalog.annotations import mark_reviewed, set_label_set, tile_boxes
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.schema import Annotation, Scene, Tile
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet

LABELS = LabelSet.of(["car", "ship"])
TILE = 32


def objects(generator: np.random.Generator, scene: Scene) -> np.ndarray:
    """One object of 10 to 14 px in most cells of 16 px, none in a quarter of the tiles."""
    corners = [
        (x + generator.uniform(0, 2), y + generator.uniform(0, 2))
        for y in range(0, scene.height, 16)
        for x in range(0, scene.width, 16)
        if (x // TILE + y // TILE) % 4 and generator.random() < 0.7
    ]
    corner = np.array(corners)
    return np.hstack([corner, corner + generator.uniform(10, 14, corner.shape)])


def fill(
    workspace: Workspace, add_scene: Callable[..., tuple[Scene, list[Tile]]], *, overlap: int = 0, train: int = 2, withhold: bool = True
) -> None:
    """Two train scenes of 128 × 64 px and a test scene of 64 × 64 px, in tiles of 32 px, with a box file's worth of objects."""
    generator = np.random.default_rng(0)
    with workspace.session() as session:
        set_label_set(session, LABELS.names)
        for number in range(train + 1):
            split, width = ("test", 64) if number == train else ("train", 128)
            scene, rows = add_scene(session, f"{split}-{number}.tif", width=width, height=64, tile=TILE, overlap=overlap, split=split)
            state = "withheld" if withhold and split == "train" else "accepted"
            for x1, y1, x2, y2 in objects(generator, scene).tolist():
                label = int(generator.integers(0, 2))
                session.add(Annotation(scene_id=scene.id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source="truth.json", state=state))
            if state == "accepted":
                mark_reviewed(session, [row.id for row in rows], by="truth.json")
        session.flush()


def truth(workspace: Workspace, split: str) -> dict[int, Boxes]:
    """By tile id, all boxes whatever their state."""
    with workspace.session(write=False) as session:
        return tile_boxes(session, tiles(session, split=split), states=("accepted", "withheld"))


def records(workspace: Workspace, split: str) -> list[TileRecord]:
    with workspace.session(write=False) as session:
        return tiles(session, split=split)


def predict(
    workspace: Workspace,
    name: str,
    *,
    split: str = "train",
    stage: str = "finetune",
    model: str = "detector",
    score: float = 0.9,
    keep: float = 1.0,
    seed: int = 0,
    only: Sequence[int] | None = None,
    fingerprint: str | None = LABELS.fingerprint,
) -> Predictions:
    """Save what a detector would say that finds ``keep`` of the objects at their very place, with about ``score``."""
    generator = np.random.default_rng(seed)
    ids = sorted(only if only is not None else [tile.id for tile in records(workspace, split)])
    boxes_of = truth(workspace, split)
    index, xyxy, labels, scores = [], [], [], []
    for row, tile_id in enumerate(ids):
        boxes = boxes_of[tile_id]
        found = boxes.take(generator.random(len(boxes)) < keep)
        for box, label in zip(found.xyxy, found.labels, strict=True):
            index.append(row)
            xyxy.append(box)
            labels.append(label)
            scores.append(np.clip(score + generator.normal(0, 0.02), 0, 1))
    class_scores = np.zeros((len(index), 2))
    class_scores[np.arange(len(index)), labels] = scores
    predictions = Predictions(
        tile_ids=np.array(ids),
        embeddings=generator.normal(size=(len(ids), 8)),
        tile_index=np.array(index),
        boxes_tile=np.array(xyxy).reshape(-1, 4),
        labels=np.array(labels),
        scores=np.array(scores),
        class_scores=class_scores,
        drift=np.zeros(len(index)),
        query_entropy=generator.random(len(ids)).astype(np.float32),
        saturated=np.zeros(len(ids), dtype=bool),
    )
    predictions.save(predictions_directory(workspace, name))
    with workspace.session() as session:
        row = add_model(session, name=model, stage=stage, config={}, data_hash="0" * 64, label_set_fingerprint=fingerprint)
        add_prediction_set(session, name=name, model=row, tiles=len(ids))
    return predictions


def paint(workspace: Workspace, path: Path) -> None:
    """Give the first train scene its pixels, in a file."""
    with workspace.session() as session:
        scene = session.query(Scene).where(Scene.name == "train-0.tif").one()
        pixels = np.random.default_rng(0).integers(0, 255, (scene.height, scene.width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        scene.path, scene.referenced = str(path), True
