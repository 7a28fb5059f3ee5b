"""Region pre-training: the whole detector learns to find what stands out, and to tell such things apart (DETReg, section 3).

DETReg's boxes are of one class, and its queries also predict what a frozen network says of the crop. Here either that, or the crops are
clustered by what the network says and every cluster is a class, which teaches every part of the detector that fine-tuning uses.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from engine.config import StageConfig
from engine.errors import NothingToDo, UsageError
from engine.models.detector import Detector, DetectorConfig
from engine.models.encoder import Memory
from engine.models.heads import MLP
from engine.models.losses import detection_loss
from engine.models.targets import Targets
from engine.pretext.frozen import FrozenBackbone, clustered
from engine.pretext.proposals import ProposalConfig, propose_boxes
from engine.pretext.tile_boxes import TileBoxes
from engine.progress import Progress, silent
from engine.training.data import Sample, TileSource, read_batches
from engine.training.detection import DetectionTask, stack_images, targets_of
from engine.training.one_shot import OneShotConfig

__all__ = ["RegionConfig", "RegionTask", "find_regions", "require_region_stage"]

BATCH = 8


class RegionConfig(StageConfig):
    """What regions are, and what is learned of them."""

    proposals: ProposalConfig = ProposalConfig()
    """The boxes."""
    taught: Literal["clusters", "embedding", "boxes", "look-alikes"] = "clusters"
    """What a region is said to be: one of several clusters of crops that look alike; an object whose embedding is to be predicted (DETReg);
    just an object; or one of those that look like a query patch, which is a region of the same cluster from another tile (for a detector
    with one_shot)."""
    clusters: int = Field(default=32, ge=2)
    """Classes of the clusters."""
    tiles: int = Field(default=5000, ge=1)
    """On how many tiles regions are found at most; of more, so many are drawn."""
    absence: float = Field(default=1.0, ge=0, le=1)
    """How much it counts that nothing is outside of the regions: most objects stand out less than those."""
    turned: bool = False
    """Describe regions for their clusters as they look in all four quarter turns, in four times the time. A cluster then shows one class
    more often (88 % against 84 %), but detectors came out no better for it."""
    crop: int = Field(default=64, ge=32)
    """Side to which a region is resized before the backbone describes it, in pixels."""
    aligned: int = Field(default=8, ge=1)
    """Regions an image whose embedding is predicted, drawn at random."""
    alignment_weight: float = Field(default=1.0, gt=0)
    """Weight of the embedding's loss."""
    asked: OneShotConfig = OneShotConfig()
    """How look-alikes are asked for."""

    @property
    def classes(self) -> int:
        """How many classes the detector has meanwhile."""
        return self.clusters if self.taught == "clusters" else 1

    @property
    def named(self) -> bool:
        """Whether regions are sorted into clusters."""
        return self.taught in ("clusters", "look-alikes")


def require_region_stage(config: RegionConfig, detector: DetectorConfig) -> None:
    """Refuse embeddings of a detector that has no region stage to predict them.

    Raises:
        UsageError: embeddings are taught, and there is none.
    """
    if config.taught == "embedding" and not (detector.two_stage and detector.region_stage):
        raise UsageError(
            "regions.taught = 'embedding' with a detector without a region stage",
            expected="architecture = 'deformable' with region_stage",
            remedy="Set regions.taught to 'clusters'",
        )


def _describe(teacher: FrozenBackbone, images: Tensor, boxes: list[Tensor], crop: int) -> Tensor:
    """Unit vectors (N, C) of the regions (n, 4) of each of images (B, 3, S, S), cut out and resized to ``crop``."""
    crops = roi_align(images.contiguous(), [each.to(images) for each in boxes], crop, aligned=True)
    return functional.normalize(teacher(crops)[-1].float().mean((2, 3)), dim=1)


def _describe_turned(teacher: FrozenBackbone, images: Tensor, boxes: list[Tensor], crop: int) -> Tensor:
    """Unit vectors (N, C) of the regions as the last two levels see them, the same whichever way a region is turned."""
    crops = roi_align(images.contiguous(), [each.to(images) for each in boxes], crop, aligned=True)
    turned = torch.cat([crops.rot90(turns, (2, 3)) for turns in range(4)])
    levels = [functional.normalize(level.float().mean((2, 3)), dim=1) for level in teacher(turned)[-2:]]
    return functional.normalize(torch.cat(levels, 1).view(4, len(crops), -1).mean(0), dim=1)


def find_regions(source: TileSource, config: RegionConfig, *, network: Detector, seed: int, progress: Progress = silent) -> TileBoxes:
    """Propose regions on every tile, and name their clusters where these are what is taught.

    Args:
        source: the tiles; one that cannot be read has no regions.
        config: what regions are.
        network: whose backbone says what stands out and what is alike.
        seed: decides segmentations and clusters; regions of a tile depend on it and the tile alone, clusters on all tiles.
        progress: told after every few tiles.

    Raises:
        NothingToDo: there are fewer regions than clusters.
    """
    teacher = FrozenBackbone(network)
    fine = 0 if len(teacher.strides) == 1 else int(network.config.reads_fine)
    boxes = [torch.zeros(0, 4) for _ in range(len(source))]
    described: list[Tensor] = []
    for indices, pixels in read_batches(source, range(len(source)), BATCH):
        images = pixels.float() / 255
        for index, each, seen in zip(indices, pixels, teacher(images)[fine], strict=True):
            boxes[index] = propose_boxes(each, config.proposals, features=seen, seed=seed)
        if config.named:
            describe = _describe_turned if config.turned else _describe
            described.append(describe(teacher, images, [boxes[index] for index in indices], config.crop))
        progress(indices[-1] + 1, len(source), "proposing regions")
    labels = torch.zeros(sum(len(each) for each in boxes), dtype=torch.long)
    if config.named:
        if len(labels) < config.clusters:
            raise NothingToDo(
                f"{len(labels)} regions for {config.clusters} clusters",
                expected="at least one a cluster",
                remedy="Take more tiles, or fewer clusters",
            )
        labels, _ = clustered(torch.cat(described), config.clusters, seed=seed)
    return TileBoxes(boxes, list(torch.split(labels, [len(each) for each in boxes])))


class RegionTask(DetectionTask):
    """Detect regions, and predict their embeddings where these are what is taught.

    Args:
        model: with as many classes as ``config`` says.
        config: what is taught.
        freeze_backbone: the rest learns alone.

    Raises:
        UsageError: embeddings are predicted from what the region stage makes of a box, and there is none.
    """

    def __init__(self, model: Detector, config: RegionConfig, *, freeze_backbone: bool = False) -> None:
        super().__init__(model)
        assert model.num_classes == config.classes
        self._config = config
        if freeze_backbone:
            model.backbone.freeze(-1)
        self._teacher: FrozenBackbone | None = None
        self._embed: nn.Module | None = None
        self._model: nn.Module = model
        require_region_stage(config, model.config)
        if config.taught == "embedding":
            self._teacher = FrozenBackbone(model)
            self._embed = MLP(model.config.dimension, model.config.dimension, model.backbone.channels[-1], 2)
            self._model = nn.ModuleDict({"detector": model, "embedding": self._embed})

    @property
    def model(self) -> nn.Module:
        """The detector, and the head of the embeddings where there is one."""
        return self._model

    def loss(self, batch: list[Sample], generator: torch.Generator, _done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """The detection loss of the regions, and how far the predicted embeddings lie from the teacher's (1 − cosine)."""
        images, targets = stack_images(batch), targets_of(batch)
        detections = self.detect(images, targets, generator)
        total, log = detection_loss(detections, targets, self.detector.config)
        if self._teacher is None or not any(len(target.boxes) for target in targets):
            return total, log
        distance = self._distance(images, detections.memory, targets, generator)
        return total + self._config.alignment_weight * distance, log | {"embedding": float(distance.detach())}

    def _distance(self, images: Tensor, memory: Memory, targets: list[Targets], generator: torch.Generator) -> Tensor:
        assert self._teacher is not None
        assert self._embed is not None
        count = self._config.aligned
        drawn = [torch.randperm(len(target.boxes), generator=generator)[:count].to(images.device) for target in targets]
        known = images.new_zeros(len(targets), count, 4)
        known[..., 2:] = 0.1
        real = torch.zeros(len(targets), count, dtype=torch.bool, device=images.device)
        for image, (target, rows) in enumerate(zip(targets, drawn, strict=True)):
            known[image, : len(rows)] = target.boxes[rows]
            real[image, : len(rows)] = True
        stage = self.detector.region_stage
        content = stage(*stage.view(memory), known).content
        predicted = functional.normalize(self._embed(content[real]).float(), dim=1)
        side = images.shape[-1]
        corners = torch.cat([known[..., :2] - known[..., 2:] / 2, known[..., :2] + known[..., 2:] / 2], -1) * side
        wanted = _describe(self._teacher, images, [each[held] for each, held in zip(corners, real, strict=True)], self._config.crop)
        return (1 - (predicted * wanted).sum(1)).mean()
