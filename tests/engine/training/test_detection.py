"""The supervised task."""

import pytest
import torch

from engine.models.detector import Detector
from engine.models.losses import LossWeights
from engine.training.data import Sample
from engine.training.detection import DetectionTask, stack_images, targets_of
from engine.training.loop import seeded


def test_images_are_scaled_to_one_and_targets_to_the_image():
    sample = Sample(torch.full((3, 64, 64), 255, dtype=torch.uint8), torch.tensor([[0.0, 16.0, 32.0, 64.0]]), torch.tensor([1]))
    assert stack_images([sample, sample]).shape == (2, 3, 64, 64)
    assert stack_images([sample]).max() == 1
    [target] = targets_of([sample])
    assert (target.labels.tolist(), target.boxes.tolist()) == ([1], [[0.25, 0.625, 0.5, 0.75]])


def test_weights_count(squares):
    with seeded(0):
        model = Detector(squares.TINY, 2).eval()
    batch = [squares.samples(2).sample(index) for index in range(2)]
    plain, doubled = (
        DetectionTask(model, LossWeights(*(factor * weight for weight in LossWeights()[:-1]))).loss(batch, torch.Generator())[0].item()
        for factor in (1, 2)
    )
    assert doubled == pytest.approx(2 * plain, rel=1e-5)
