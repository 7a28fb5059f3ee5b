"""One-shot detection as a task: find all objects of the kind that a query patch from another image shows (UP-DETR, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops import roi_align

from engine.config import StageConfig
from engine.errors import NothingToDo, UsageError
from engine.models.denoising import known_boxes
from engine.models.detector import Detector
from engine.models.losses import detection_loss
from engine.models.one_shot import describe_patches
from engine.models.targets import Targets
from engine.progress import Progress, silent
from engine.records import Ground
from engine.training.data import Sample, TileSource, readable
from engine.training.detection import dropout_from, stack_images, targets_of

__all__ = ["OneShotConfig", "OneShotTask", "Query", "QueryBank", "cut"]

SMALLEST_SIDE_PIXELS = 8.0
"""A box with a shorter side shows too little to be asked for."""


class OneShotConfig(StageConfig):
    """How queries are asked."""

    queries: int = Field(default=2, ge=1)
    """Queries an image, each for a class of its own where the image has as many."""
    absent: float = Field(default=0.2, ge=0, lt=1)
    """Share of queries for something that the image does not show: the answer is nothing. None in the paper."""
    patch_size: int = Field(default=64, ge=32)
    """Side to which a query is resized before the backbone describes it, in pixels."""
    colour_jitter: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of a query's brightness, for each colour."""


class _Objects(NamedTuple):
    """The n objects of a class, in the order of their tiles."""

    tiles: NDArray[np.int64]
    """(n,) indices."""
    boxes: Tensor
    """(n, 4) as (x1, y1, x2, y2) in pixels of their tiles."""
    scenes: NDArray[np.int64]
    """(n,) ids; -1 where the source does not say."""
    boxes_scene: NDArray[np.float64]
    """(n, 4) in pixels of their scenes."""

    @classmethod
    def of(cls, entries: Sequence[tuple[int, Tensor]], grounds: Mapping[int, Ground]) -> _Objects:
        """Those of tiles and boxes (4,), on the grounds of their tiles where these are known."""
        tiles, boxes = np.array([tile for tile, _ in entries]), torch.stack([box for _, box in entries])
        known = [grounds.get(tile) for tile, _ in entries]
        corners = np.array([(ground.window.x, ground.window.y) if ground else (0, 0) for ground in known], np.float64)
        scenes = np.array([ground.scene if ground else -1 for ground in known])
        return cls(tiles, boxes, scenes, boxes.double().numpy() + np.tile(corners, 2))


class Query(NamedTuple):
    """What an image is asked for."""

    label: int
    patch: Tensor
    """(3, s, s) in [0, 1]."""


def cut(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Patches (n, 3, side, side) in [0, 1]: boxes (n, 4) of an image (3, S, S) uint8, cut out and resized."""
    patches: Tensor = roi_align((image.float() / 255)[None].contiguous(), [boxes.to(image.device).float()], side, aligned=True)
    return patches


class QueryBank:
    """Objects that can be asked for, by class.

    Args:
        source: the tiles, those of the batches in the same order; read by no other thread.
        side: to which queries are resized, in pixels.
        progress: told while the tiles are read.

    Raises:
        NothingToDo: there is no object with sides of 8 pixels.
    """

    def __init__(self, source: TileSource, side: int, *, progress: Progress = silent) -> None:
        self._source, self._side = source, side
        self._grounds: dict[int, Ground] = {}
        entries: dict[int, list[tuple[int, Tensor]]] = {}
        for index, sample in readable(source, range(len(source))):
            if sample.ground:
                self._grounds[index] = sample.ground
            large = ((sample.boxes[:, 2:] - sample.boxes[:, :2]) >= SMALLEST_SIDE_PIXELS).all(1)
            for box, label in zip(sample.boxes[large], sample.labels[large].tolist(), strict=True):
                entries.setdefault(label, []).append((index, box))
            progress(index + 1, len(source), "reading objects to ask for")
        if not entries:
            raise NothingToDo(
                "there is no object to ask for",
                expected=f"boxes with sides of {SMALLEST_SIDE_PIXELS:.0f} pixels at least",
                remedy="Bring labels in, or take larger tiles",
            )
        self._objects = {label: _Objects.of(held, self._grounds) for label, held in entries.items()}

    @property
    def classes(self) -> list[int]:
        """Classes of which there is an object."""
        return sorted(self._objects)

    def draw(self, label: int, generator: torch.Generator, *, other_than: int = -1) -> Tensor:
        """A patch (3, s, s) in [0, 1] of an object of the class ``label``, in a random one of the eight orientations.

        Args:
            label: one of ``classes``.
            generator: decides.
            other_than: the tile that it is not to come from, nor from the ground that it shows, which neighbouring tiles may show as well;
                unless the class is nowhere else: then any object of it.
        """
        objects = self._objects[label]
        elsewhere = self._elsewhere(objects, other_than)
        chosen = elsewhere[int(torch.randint(len(elsewhere), (1,), generator=generator))]
        patch = cut(self._source.sample(int(objects.tiles[chosen])).image, objects.boxes[chosen][None], self._side)[0]
        turns, mirrored = torch.randint(4, (1,), generator=generator), torch.randint(2, (1,), generator=generator)
        patch = patch.rot90(int(turns), (1, 2))
        return patch.flip(2) if mirrored else patch

    def _elsewhere(self, objects: _Objects, tile: int) -> list[int]:
        """The objects (rows) that the tile does not show; all where it shows each of them."""
        apart = objects.tiles != tile
        if tile in self._grounds:
            apart &= ~self._grounds[tile].holds(objects.scenes, objects.boxes_scene)
        rows: list[int] = np.flatnonzero(apart).tolist()
        return rows or list(range(len(apart)))


class OneShotTask:
    """Find what query patches show, with every part of the detector.

    Differences from UP-DETR: the patch joins memory and not the decoder's slots alone; some queries ask for what is not there; boxes are
    supervised as the detector's configuration says.

    Args:
        model: with ``one_shot`` and one class.
        bank: the objects that are asked for.
        config: how.
        freeze_backbone: the rest learns alone.

    Raises:
        UsageError: the detector has no query patches.
    """

    def __init__(self, model: Detector, bank: QueryBank, config: OneShotConfig, *, freeze_backbone: bool = False) -> None:
        if not model.config.one_shot or model.num_classes != 1:
            raise UsageError(
                f"a detector with one_shot = {model.config.one_shot} and {model.num_classes} classes",
                expected="one that is asked for what a patch shows",
                remedy="Set detector.one_shot",
            )
        self.detector, self._bank, self._config = model, bank, config
        if freeze_backbone:
            model.backbone.freeze(-1)

    @property
    def model(self) -> nn.Module:
        """The detector."""
        return self.detector

    @property
    def classes(self) -> None:
        """None: classes tell queries apart and are not learned."""

    def query_for(self, sample: Sample, generator: torch.Generator) -> Query:
        """A patch from elsewhere of what the image shows most of; of anything where it shows nothing that can be asked for."""
        held = [label for label in sample.labels.tolist() if label in self._bank.classes]
        label = max(sorted(set(held)), key=held.count) if held else self._bank.classes[0]
        return Query(label, self._bank.draw(label, generator, other_than=sample.tile))

    def _asked_for(self, sample: Sample, generator: torch.Generator) -> list[int]:
        """The classes of an image's queries."""
        known = self._bank.classes
        held = set(sample.labels.tolist())
        present, absent = [label for label in known if label in held], [label for label in known if label not in held]
        order = [present[index] for index in torch.randperm(len(present), generator=generator).tolist()]
        chosen = []
        for number in range(self._config.queries):
            lacking = float(torch.rand(1, generator=generator)) < self._config.absent
            if absent and (lacking or not order):
                chosen.append(absent[int(torch.randint(len(absent), (1,), generator=generator))])
            else:
                chosen.append(order[number % len(order)])
        return chosen

    def _patches(self, batch: list[Sample], asked: list[list[int]], generator: torch.Generator) -> Tensor:
        """Query patches (B · M, 3, s, s), each colour a little brighter or darker."""
        drawn = [
            self._bank.draw(label, generator, other_than=sample.tile)
            for sample, labels in zip(batch, asked, strict=True)
            for label in labels
        ]
        patches = torch.stack(drawn)
        change = 1 + self._config.colour_jitter * (2 * torch.rand((len(patches), 3, 1, 1), generator=generator) - 1)
        return (patches * change).clamp(0, 1).to(batch[0].image.device)

    def loss(self, batch: list[Sample], generator: torch.Generator, _done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """The detection loss of what each query asks for; boxes of other kinds are looked into as well."""
        model, images, every = self.detector, stack_images(batch), targets_of(batch)
        asked = [self._asked_for(sample, generator) for sample in batch]
        patches = self._patches(batch, asked, generator).contiguous(memory_format=torch.channels_last)
        pairs = [(target, label) for target, labels in zip(every, asked, strict=True) for label in labels]
        wanted = [_of_class(target, label) for target, label in pairs]
        known = known_boxes([target for target, _ in pairs], model.config, generator) if model.config.region_stage else None
        with dropout_from(generator, model.config.dropout):
            features = describe_patches(model, patches).view(len(batch), self._config.queries, -1)
            detections = model.detect(model.asked(model.encode(images), features), None, known)
        total, log = detection_loss(detections, wanted, model.config)
        return total, log | {"sought": float(sum(len(target.labels) for target in wanted))}


def _of_class(target: Targets, label: int) -> Targets:
    held = target.labels == label
    return target._replace(labels=torch.zeros_like(target.labels[held]), boxes=target.boxes[held])
