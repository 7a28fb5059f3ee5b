"""A learner that needs no training: the more boxes of a class it has seen, the more of that class it finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.boxes import Boxes
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.progress import Progress
from engine.simulation.pool import LabelledPool
from engine.simulation.replay import Measured

CLASSES = LabelSet(("car", "boat"))


def pool(seed: int = 0, tiles: int = 120) -> LabelledPool:
    """Tiles of 64 px in rows of ten a scene; half are empty, cars are nine times as many as boats."""
    generator = np.random.default_rng(seed)
    number = np.arange(tiles)
    corner = np.stack([number % 10 * 64.0, np.zeros(tiles)], axis=1)
    true = []
    for _ in range(tiles):
        count = int(generator.integers(1, 5)) if generator.random() < 0.5 else 0
        place = generator.integers(0, 44, (count, 2)).astype(float)
        true.append(Boxes(np.hstack([place, place + 16]), (generator.random(count) < 0.1).astype(np.int64)))
    return LabelledPool(number * 3 + 1, number // 10, np.hstack([corner, corner + 64]), true, CLASSES)


class CountingLearner:
    """Finds n / (n + 10) of the objects of a class of which it has learned n; AP50 is the mean of that over the classes."""

    def __init__(self, tiles: LabelledPool) -> None:
        self.pool = tiles
        self.skill: dict[str, np.ndarray] = {}
        self.learned: list[tuple[str, int]] = []

    def learn(self, name: str, rows: np.ndarray, boxes: Sequence[Boxes], progress: Progress) -> float:
        """Count the objects of each class; each tile is looked at twice."""
        progress(0, 1, f"learn {name}")
        if name not in self.skill:
            self.learned.append((name, len(rows)))
        labels = np.concatenate([known.labels for known in boxes])
        number = np.bincount(labels, minlength=2)
        self.skill[name] = number / (number + 10)
        return 2.0

    def predict(self, name: str, progress: Progress) -> Predictions:
        """Objects at their very place, with a score that is the skill in their class."""
        progress(0, 1, f"predict {name}")
        generator = np.random.default_rng(5)
        skill = self.skill[name]
        kept = [known.take(generator.random(len(known)) < skill[known.labels]) for known in self.pool.true]
        labels = np.concatenate([known.labels for known in kept]).astype(np.int64)
        scores = np.zeros((len(labels), 2))
        scores[np.arange(len(labels)), labels] = np.clip(skill[labels], 0.05, 0.95)
        return Predictions(
            tile_ids=self.pool.tile_ids,
            embeddings=generator.normal(size=(len(self.pool), 6)),
            tile_index=np.repeat(np.arange(len(kept)), [len(known) for known in kept]),
            boxes_tile=np.concatenate([known.xyxy for known in kept]),
            labels=labels,
            scores=scores.max(axis=1, initial=0),
            class_scores=scores,
            drift=np.zeros(len(labels)),
            query_entropy=generator.random(len(self.pool)).astype(np.float32),
            saturated=np.zeros(len(self.pool), dtype=bool),
            features=generator.normal(size=(int((scores.max(axis=1, initial=0) >= 0.1).sum()), 4)).astype(np.float16),
        )

    def measure(self, name: str, progress: Progress) -> Measured:
        """The mean skill."""
        progress(0, 1, f"measure {name}")
        skill = self.skill[name]
        return Measured(float(skill.mean()) / 2, float(skill.mean()), dict(zip(CLASSES.names, skill.tolist(), strict=True)))
