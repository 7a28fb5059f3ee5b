"""A task that is learned in microseconds, and tiles that fail as told: for tests of the loop that need no detector."""

import math

import numpy as np
import torch
from torch import nn

from engine.boxes import Boxes
from engine.errors import Cancelled, UnreadableImage
from engine.training.augment import AugmentConfig
from engine.training.data import TileSamples
from engine.training.schedule import ScheduleConfig

SIZE = 16


class Mean(nn.Module):
    """Predicts the number of an image's boxes from the mean of its pixels; with a normalisation, a bias and sampling offsets."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.backbone = nn.ModuleDict({"body": nn.Linear(3, 8)})
            self.norm = nn.LayerNorm(8)
            self.sampling_offsets = nn.Linear(8, 8)
            self.head = nn.Linear(8, 1)

    def forward(self, images):
        return self.head(self.sampling_offsets(self.norm(self.backbone["body"](images.flatten(2).mean(2)))).tanh())[:, 0]


class Counting:
    """The task of :class:`Mean`: summed over images, divided by objects. ``sizes`` notes the images of every call.

    Args:
        holds: images above which a call runs out of memory.
        error: what it then raises.
        broken: "loss" or "gradient", from the call number ``at`` on.
    """

    def __init__(self, *, holds=math.inf, error=torch.OutOfMemoryError, broken=None, at=0):
        self.model, self.sizes = Mean(), []
        self._holds, self._error, self._broken, self._at = holds, error, broken, at

    classes = None

    def loss(self, batch, generator, done=0.0):
        self.sizes.append(len(batch))
        if len(batch) > self._holds:
            raise self._error("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        counts = torch.tensor([float(len(sample.labels)) for sample in batch])
        images = torch.stack([sample.image for sample in batch]).float() / 255
        loss = (self.model(images) - counts).square().sum() / counts.sum().clamp(min=1)
        if self._broken and len(self.sizes) > self._at:
            zero = (self.model.head.bias - self.model.head.bias.detach()).sum()
            loss = loss * math.nan if self._broken == "loss" else loss + zero.abs().sqrt()
        return loss, {"counts": float(loss.detach())}


class StopAt:
    """Cancels from a number of images on."""

    def __init__(self, images):
        self.images = images

    def __call__(self, done, total, message):
        if done >= self.images:
            raise Cancelled("stopped")


class Failing(TileSamples):
    """Tiles of which those numbered in ``unreadable`` cannot be decoded; ``asked`` notes every one that was read."""

    def __init__(self, *arguments, unreadable=(), **options):
        super().__init__(*arguments, **options)
        self.unreadable, self.asked = set(unreadable), []

    def sample(self, index):
        self.asked.append(index)
        if index in self.unreadable:
            raise UnreadableImage(f"{self.name(index)} is cut off")
        return super().sample(index)


class Torn:
    """Tiles of another source, of which those numbered ``lost`` cannot be decoded."""

    def __init__(self, source, lost):
        self.source, self.lost = source, set(lost)

    def __len__(self):
        return len(self.source)

    def sample(self, index):
        if index in self.lost:
            raise UnreadableImage(f"{self.name(index)} is cut off")
        return self.source.sample(index)

    def name(self, index):
        return self.source.name(index)


def tiles(count, *, unreadable=()):
    """Tiles of noise with one to three boxes, named ``tile-0`` and so on."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(count)]
    boxes = [
        Boxes(np.array([[1, 1, 6, 7], [8, 2, 14, 9], [3, 9, 8, 15]][: 1 + number % 3]), np.arange(1 + number % 3))
        for number in range(count)
    ]
    return Failing(images, boxes, SIZE, names=[f"tile-{number}" for number in range(count)], unreadable=unreadable)


def schedule(**changes):
    """Ten steps of four images on one thread."""
    length = {"images_seen": 40, "batch_size": 4, "warmup_steps": 2, "checkpoint_seconds": 0.0, "augment": AugmentConfig()}
    rates = {"learning_rate": 1e-3, "backbone_learning_rate": 2e-4, "clip_norm": 1.0, "threads": 1, "precision": "fp32"}
    return ScheduleConfig(**length | rates | changes)
