"""Tiles to choose from, as the ranking gets them."""

import dataclasses

import numpy as np

from engine.selection.candidates import Candidates
from engine.selection.detections import Detections, KnownObjects

SPLITS = np.array(["train", "train", "train", "dev", "test", "none"])
CLASSES = ("tree", "car")


def known_objects(rows: list[int] | np.ndarray, classes: int = 1) -> KnownObjects:
    """An object on each of ``rows``, of the classes in turns."""
    count = len(rows)
    corner = np.arange(count)[:, None] % 7 * 2.0
    return KnownObjects(np.asarray(rows), np.hstack([corner, corner, corner + 9, corner + 9]), np.arange(count) % classes)


def world(seed: int, count: int, *, seen: bool = True, embedded: bool = True, labelled_boxes: int = 20) -> Candidates:
    """Tiles 32 px wide on scenes of 4 × n tiles with an overlap of 8 px; some are reviewed, some are not for training."""
    generator = np.random.default_rng(seed)
    place = np.arange(count) % 40
    corner = np.stack([place % 4, place // 4], axis=1) * 24.0
    tile = generator.integers(0, max(count, 1), 4 * count)
    box = generator.integers(0, 20, (4 * count, 2)).astype(float)
    splits, reviewed = generator.choice(SPLITS, count), generator.random(count) < 0.3
    labelled = np.flatnonzero(reviewed & (splits == "train"))
    drift, features = np.round(generator.random(4 * count), 1), np.round(generator.normal(size=(4 * count, 3)), 1)
    scores = np.round(generator.random((4 * count, 2)), 1)
    return Candidates(
        tile_ids=np.sort(generator.choice(10 * count + 10, count, replace=False)),
        scene_ids=np.arange(count) // 40,
        windows_scene=np.hstack([corner, corner + 32]),
        splits=splits,
        reviewed=reviewed,
        embeddings=np.round(generator.normal(size=(count, 6)), 1) if embedded else None,
        detections=Detections(tile, np.hstack([box, box + 10]), scores, drift, features) if seen else None,
        query_entropy=np.round(generator.random(count), 1) if seen else None,
        known=known_objects(labelled[np.arange(labelled_boxes) % len(labelled)], 2) if len(labelled) else None,
        class_names=CLASSES,
    )


def tiles_in_a_row(doubts: list[float], *, step: float = 100.0, **kwargs: object) -> Candidates:
    """One tile a doubt; each shows one object with that score."""
    count = len(doubts)
    corner = np.arange(count) * step
    windows = np.stack([corner, np.zeros(count), corner + 32, np.full(count, 32.0)], axis=1)
    seen = Detections(np.arange(count), np.tile([0.0, 0, 9, 9], (count, 1)), np.array(doubts)[:, None])
    entropy = -np.abs(np.array(doubts) - 0.5)
    values = {"reviewed": np.zeros(count, dtype=bool), "detections": seen, "query_entropy": entropy, **kwargs}
    return Candidates(np.arange(count), np.zeros(count), windows, np.full(count, "train"), **values)


def many_tiles(count: int, scores: np.ndarray, scene_ids: np.ndarray | None = None) -> Candidates:
    """Tiles apart from one another, each with one object of the score, if that is above 0."""
    row = tiles_in_a_row([0.5] * count)
    shown = np.flatnonzero(scores > 0)
    seen = Detections(shown, np.tile([0.0, 0, 9, 9], (len(shown), 1)), scores[shown, None])
    return dataclasses.replace(row, detections=seen, scene_ids=np.zeros(count) if scene_ids is None else scene_ids)
