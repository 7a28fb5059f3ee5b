"""Pictures of bright squares on dark ground, with their boxes; a detector small enough to learn them in seconds; a workspace of them.

A red square is of class 0 ("red"), a green one of class 1 ("green").
"""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from engine.boxes import Boxes
from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.schema import Annotation
from engine.label_set import LabelSet
from engine.models.detector import DetectorConfig, Layer
from engine.pretext.query_patches import PatchConfig
from engine.training.augment import AugmentConfig
from engine.training.data import TileSamples
from engine.training.loop import ScheduleConfig

LABELS = LabelSet.of(["red", "green"])
SIZE = 64
PLAIN = AugmentConfig(flip=False, quarter_turn=False, scale=(1.0, 1.0), brightness=0.0, contrast=0.0)
"""No augmentation at all."""
TINY = DetectorConfig(
    backbone="test_efficientnet",
    backbone_weights="none",
    frozen_stages=0,
    dimension=32,
    heads=4,
    points=2,
    feedforward=64,
    encoder_layers=1,
    decoder_layers=2,
    region_stage=32,
    num_queries=20,
    proposal_candidates=40,
    patch_slots=20,
    image_size=SIZE,
)
PATCHES = PatchConfig(patches=4, patch_size=32)
SCENES = (("train-0", "train", 128), ("train-1", "train", 128), ("dev", "dev", 64), ("test", "test", 128))
"""Name, split and width of a workspace's scenes, 64 px high, in tiles of 64 px: 4 tiles of train, 1 of dev, 2 of test ground."""


def schedule(**changes):
    """A short schedule on one thread, without augmentation."""
    values = {
        "images_seen": 16,
        "batch_size": 2,
        "learning_rate": 2e-3,
        "backbone_learning_rate": 2e-3,
        "warmup_steps": 2,
        "threads": 1,
        "precision": "fp32",
    }
    return ScheduleConfig(**values | {"augment": PLAIN} | changes)


def picture(seed, *, width=SIZE, height=SIZE):
    """Pixels (height, width, 3), and the boxes of the squares in them: one in every quarter of 32 px but some."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(20, 50, (height, width, 3), dtype=np.uint8)
    boxes, labels = [], []
    cells = [(x, y) for y in range(0, height, 32) for x in range(0, width, 32)]
    for number, (x, y) in enumerate(cells):
        if number and generator.random() < 0.3:
            continue
        side = int(generator.integers(14, 22))
        left, top = (int(start + generator.integers(2, 30 - side)) for start in (x, y))
        label = int(generator.integers(0, 2))
        pixels[top : top + side, left : left + side, label] = 230
        boxes.append([left, top, left + side, top + side])
        labels.append(label)
    return pixels, Boxes(np.array(boxes), np.array(labels))


def samples(count, *, first=0):
    """Training samples of ``count`` pictures."""
    pictures = [picture(first + number) for number in range(count)]
    return TileSamples([pixels for pixels, _ in pictures], [boxes for _, boxes in pictures], SIZE)


def fill(workspace, add_scene, *, labelled=True, scenes=SCENES, tile=SIZE):
    """Scenes with their rasters; with ``labelled`` all squares are accepted and all tiles reviewed."""
    with workspace.session() as session:
        if labelled:
            set_label_set(session, LABELS.names)
        for seed, (name, split, width) in enumerate(scenes):
            pixels, boxes = picture(seed, width=width)
            scene, rows = add_scene(session, name, width=width, height=SIZE, tile=tile, split=split)
            Image.fromarray(pixels).save(workspace.root / scene.path, format="TIFF")
            if labelled:
                annotate(session, scene, boxes)
                mark_reviewed(session, [row.id for row in rows], by="truth.json")


def annotate(session, scene, boxes):
    """Accept ``boxes`` on the scene."""
    for (x1, y1, x2, y2), label in zip(boxes.xyxy.tolist(), boxes.labels.tolist(), strict=True):
        session.add(Annotation(scene_id=scene.id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source="truth.json", state="accepted"))


class Cells(nn.Module):
    """A detector whose queries are the cells of 32 px and whose scores are their colours; ``lie`` is added to the exported logits alone."""

    def __init__(self, lie=0.0):
        super().__init__()
        self.config, self.lie = SimpleNamespace(image_size=SIZE), lie
        self.register_buffer("boxes", torch.tensor([[x, y, 0.5, 0.5] for y in (0.25, 0.75) for x in (0.25, 0.75)]))

    def forward(self, images):
        logits = functional.avg_pool2d(images[:, :2], 32).flatten(2).transpose(1, 2)
        logits = logits + self.lie if torch.compiler.is_exporting() else logits
        return SimpleNamespace(layers=[Layer(logits, self.boxes.expand(images.shape[0], -1, -1))])
