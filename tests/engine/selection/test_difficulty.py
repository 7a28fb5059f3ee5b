"""Difficulty: what is not found well is hard, with the weights of the paper."""

import math

import numpy as np
import pytest

from engine.selection.detections import Detections, KnownObjects
from engine.selection.difficulty import DifficultyConfig, class_difficulty, difficulty_weights

BOX = [0.0, 0, 10, 10]


def test_a_class_that_is_missed_is_hard() -> None:
    found = Detections(np.array([0, 1]), np.array([BOX, BOX]), np.array([[0.9, 0.1], [0.6, 0.0]]))
    known = KnownObjects(np.array([0, 1, 2]), np.array([BOX, [0, 0, 10, 5], BOX]), np.array([0, 0, 1]))
    hard = class_difficulty(found, known, DifficultyConfig(prior_objects=0))
    quality = [0.9**0.6, 0.6**0.6 * 0.5**0.4]
    assert hard.tolist() == pytest.approx([1 - sum(quality) / 2, 1])


def test_a_class_that_nobody_drew_is_as_hard_as_the_others() -> None:
    found = Detections(np.array([0]), np.array([BOX]), np.array([[0.5, 0.0]]))
    known = KnownObjects(np.array([0]), np.array([BOX]), np.array([0]))
    hard = class_difficulty(found, known, DifficultyConfig())
    assert hard[1] == pytest.approx(hard[0])


def test_with_nothing_known_every_class_is_hard() -> None:
    found = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 3)))
    assert class_difficulty(found, KnownObjects.nothing(), DifficultyConfig(prior_objects=0)).tolist() == [1, 1, 1]


def test_the_order_of_what_is_known_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    corner = generator.integers(0, 30, (60, 2)).astype(float)
    known = KnownObjects(generator.integers(0, 9, 60), np.hstack([corner, corner + 9]), generator.integers(0, 3, 60))
    found = Detections(np.sort(generator.integers(0, 9, 40)), np.hstack([corner, corner + 10])[:40], generator.random((40, 3)))
    mixed = known.take(generator.permutation(60))
    assert class_difficulty(found, known, DifficultyConfig()).tolist() == class_difficulty(found, mixed, DifficultyConfig()).tolist()


def test_weights_run_from_one_to_one_and_beta() -> None:
    config = DifficultyConfig()
    weights = difficulty_weights(np.array([0.0, 0.5, 1.0]), config)
    middle = 1 + 0.3 * 0.2 * math.log((math.exp(1 / 0.3) - 1) * 0.5 + 1)
    assert weights.tolist() == pytest.approx([1, middle, 1.2])
