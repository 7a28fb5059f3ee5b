"""Twenty steps whose losses are known: a change that means to leave the numbers alone leaves these alone.

The numbers lie in ``tests/data/golden_losses.json``. A change that means to move them makes them anew, and shows the difference in its
commit: ``TILEHAWK_REMAKE_GOLDEN=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/engine/training/test_golden.py``.
"""

import json
import os
from pathlib import Path

import pytest

from engine.files import write_json
from engine.models.detector import Detector
from engine.progress import silent
from engine.training.augment import AugmentConfig
from engine.training.detection import DetectionTask
from engine.training.loop import seeded, train

NUMBERS = Path(__file__).parents[2] / "data" / "golden_losses.json"
STEPS = 20


def losses(squares):
    """In fp32 on one thread, with augmentation."""
    with seeded(0):
        task = DetectionTask(Detector(squares.TINY, 2))
    config = squares.schedule(images_seen=2 * STEPS, precision="fp32", augment=AugmentConfig(saturation=0.1, hue=0.02))
    return train(task, squares.samples(6), config, checkpoints=None, progress=silent).losses


def test_the_losses_of_twenty_steps_are_the_known_ones(squares):
    found = losses(squares)
    if os.environ.get("TILEHAWK_REMAKE_GOLDEN") == "1":
        write_json(NUMBERS, found)
    assert found == pytest.approx(json.loads(NUMBERS.read_text()), rel=1e-4)
    assert len(found) == STEPS
