"""How well a detector finds what a crop from another image shows.

The protocol is that of UP-DETR (section 4.3): every pair of an image and a class that it shows is asked for in five rounds, with crops of
the class from other images, shuffled by the image's id; the AP50 of each class is that of the rounds, averaged.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes
from engine.errors import NothingToDo
from engine.evaluation.detection import evaluate_detections
from engine.label_set import LabelSet
from engine.records import Ground

__all__ = ["LabelledImage", "OneShotMetrics", "Question", "one_shot_metrics", "one_shot_questions"]

ROUNDS = 5
SMALLEST_SIDE_PIXELS = 8.0
"""A box with a shorter side shows too little to be asked with."""
SOUGHT = LabelSet.of(["sought"])


class LabelledImage(NamedTuple):
    """An image, and all that it shows."""

    id: int
    """Shuffles the crops that it is asked with."""
    boxes: Boxes
    """In its pixels."""
    ground: Ground | None = None
    """Where it was cut out, if it is a tile: what lies there is no crop to ask it with."""


class Question(NamedTuple):
    """Where in an image is what a crop of another one shows?"""

    image: int
    """Index of the image."""
    label: int
    shown: int
    """Index of the image with the crop."""
    box: tuple[float, float, float, float]
    """(x1, y1, x2, y2) of the crop, in pixels of that image."""


class _Crops(NamedTuple):
    """The n crops of a class, in the order of their images."""

    images: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    scenes: NDArray[np.int64]
    xyxy_scene: NDArray[np.float64]

    def elsewhere(self, index: int, ground: Ground | None) -> list[int]:
        """Those that the image does not show."""
        apart = self.images != index
        if ground:
            apart &= ~ground.holds(self.scenes, self.xyxy_scene)
        rows: list[int] = np.flatnonzero(apart).tolist()
        return rows


def _crops(images: Sequence[LabelledImage], label: int) -> _Crops:
    index, xyxy, scenes, corners = [], [], [], []
    for number, image in enumerate(images):
        sides = image.boxes.xyxy[:, 2:] - image.boxes.xyxy[:, :2]
        wanted = (image.boxes.labels == label) & (sides >= SMALLEST_SIDE_PIXELS).all(1)
        for box in image.boxes.xyxy[wanted]:
            index.append(number)
            xyxy.append(box)
            scenes.append(image.ground.scene if image.ground else -1)
            corners.append(image.ground.window.xyxy[:2] * 2 if image.ground else (0, 0, 0, 0))
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    scene_boxes = boxes + np.asarray(corners, np.float64).reshape(-1, 4)
    return _Crops(np.asarray(index, np.int64), boxes, np.asarray(scenes, np.int64), scene_boxes)


def one_shot_questions(images: Sequence[LabelledImage], *, rounds: int = ROUNDS) -> list[list[Question]]:
    """The questions of each round, by image and class; a class that no other image shows is not asked for.

    Args:
        images: with different ids.
        rounds: how often every image is asked for every class, each time with the next crop.
    """
    labels = sorted({label for image in images for label in image.boxes.labels.tolist()})
    crops = {label: _crops(images, label) for label in labels}
    asked: list[list[Question]] = [[] for _ in range(rounds)]
    for index, image in enumerate(images):
        for label in sorted(set(image.boxes.labels.tolist())):
            rows = crops[label].elsewhere(index, image.ground)
            random.Random(image.id).shuffle(rows)  # noqa: S311 - the protocol's order, nothing secret
            for turn in range(rounds if rows else 0):
                row = rows[turn % len(rows)]
                x1, y1, x2, y2 = crops[label].xyxy[row].tolist()
                asked[turn].append(Question(index, label, int(crops[label].images[row]), (x1, y1, x2, y2)))
    return asked


@dataclass(frozen=True)
class OneShotMetrics:
    """AP50 in [0, 1]; None where nothing could be asked for."""

    seen: float | None
    """mean of the classes that were learned"""
    unseen: float | None
    """mean of those that were left out of training"""
    ap50_per_class: dict[str, float | None]
    """mean of the rounds"""
    rounds_per_class: dict[str, list[float]]
    """of each round"""
    unseen_classes: tuple[str, ...]
    images: int
    questions: int


def one_shot_metrics(
    images: Sequence[LabelledImage],
    asked: Sequence[Sequence[Question]],
    found: Sequence[Sequence[Boxes]],
    classes: LabelSet,
    *,
    unseen: Collection[str] = (),
    max_detections: int = 100,
) -> OneShotMetrics:
    """Compare what was found with what is there, class by class and round by round.

    Args:
        images: what was asked.
        asked: the questions of each round, from :func:`one_shot_questions`.
        found: for each question the boxes that were found, with scores.
        classes: what the labels stand for.
        unseen: the classes that were left out of training.
        max_detections: the best so many answers to a question count.

    Raises:
        NothingToDo: there was no question.
    """
    if not any(asked):
        raise NothingToDo(
            f"no class with objects of {SMALLEST_SIDE_PIXELS:.0f} pixels on two of {len(images)} images, so nothing can be asked for",
            expected="crops of a class from other images than the one that is asked",
            remedy="Label more tiles of this ground",
        )
    rounds: dict[str, list[float]] = {name: [] for name in classes.names}
    for questions, answers in zip(asked, found, strict=True):
        pairs: dict[int, list[tuple[Boxes, Boxes]]] = {}
        for question, answer in zip(questions, answers, strict=True):
            true = images[question.image].boxes
            pairs.setdefault(question.label, []).append((_sought(true.take(true.labels == question.label)), _sought(answer)))
        for label, each in pairs.items():
            rounds[classes.names[label]].append(evaluate_detections(each, SOUGHT, max_detections=max_detections).ap50)
    per_class = {name: statistics.mean(values) if values else None for name, values in rounds.items()}
    return OneShotMetrics(
        seen=_mean({name: value for name, value in per_class.items() if name not in unseen}),
        unseen=_mean({name: value for name, value in per_class.items() if name in unseen}),
        ap50_per_class=per_class,
        rounds_per_class=rounds,
        unseen_classes=tuple(name for name in classes.names if name in unseen),
        images=len(images),
        questions=sum(len(questions) for questions in asked),
    )


def _sought(boxes: Boxes) -> Boxes:
    return Boxes(boxes.xyxy, np.zeros(len(boxes), np.int64), boxes.scores)


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return statistics.mean(known) if known else None
