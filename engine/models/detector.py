"""The whole detection transformer: backbone → encoder → proposals → queries → decoder → boxes and classes."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from engine.config import StageConfig
from engine.models.backbone import Backbone
from engine.models.decoder_deformable import DeformableDecoder
from engine.models.encoder import DeformableEncoder, Memory, ProposalHead, Proposals
from engine.models.heads import MLP
from engine.models.queries import PatchQueries, select_proposals

__all__ = ["Detections", "Detector", "DetectorConfig", "Layer"]


class DetectorConfig(StageConfig):
    """Architecture of a deformable detector. Saved with every model; a model loads only into the same architecture."""

    backbone: str = "tf_efficientnet_lite0"
    """Any timm model with features_only."""
    backbone_weights: Literal["packaged", "none"] = "packaged"
    """Where the backbone starts: the packaged ImageNet weights (EfficientNet-Lite0 only), or random."""
    feature_levels: tuple[int, ...] = (2, 3, 4)
    """timm feature levels that become memory, finest first; 2 is stride 8. Small objects need it."""
    frozen_stages: int = Field(default=3, ge=-1)
    """Backbone parts that fine-tuning leaves as they are: 3 = stem and two stages; -1 = all."""
    dimension: int = Field(default=128, ge=16, multiple_of=16)
    """D, channels of tokens and queries."""
    heads: int = Field(default=8, ge=1)
    """Attention heads."""
    points: int = Field(default=4, ge=1)
    """Sampling points a head and level."""
    feedforward: int = Field(default=512, ge=16)
    """Channels inside the feed-forward parts."""
    encoder_layers: int = Field(default=1, ge=0)
    """Deformable encoder layers."""
    decoder_layers: int = Field(default=3, ge=1)
    """Deformable decoder layers."""
    num_queries: int = Field(default=100, ge=1)
    """Object queries chosen from the proposals: the most objects that a tile can hold."""
    proposal_candidates: int = Field(default=300, ge=1)
    """Proposals among which duplicates are suppressed before queries are chosen."""
    proposal_iou: float = Field(default=0.7, gt=0, le=1)
    """Overlap above which a proposal counts as a duplicate of a better one."""
    patch_slots: int = Field(default=100, ge=1)
    """Learned query slots that carry query patches in pre-training and one-shot detection."""
    image_size: int = Field(default=320, ge=64, multiple_of=32)
    """Side of the square input in pixels; smaller tiles are padded at the right and bottom with black."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.dimension % self.heads:
            raise ValueError(f"heads = {self.heads} must divide dimension = {self.dimension}")
        if self.proposal_candidates < self.num_queries:
            raise ValueError(f"proposal_candidates = {self.proposal_candidates} must be at least num_queries = {self.num_queries}")
        return self


class Layer(NamedTuple):
    """What one decoder layer says."""

    logits: Tensor
    """(B, N, C)."""
    boxes: Tensor
    """(B, N, 4) as (cx, cy, w, h), normalised."""


class Detections(NamedTuple):
    """Everything that a forward pass computes; the last layer is the answer, the others are trained too."""

    layers: list[Layer]
    proposals: Proposals
    memory: Memory


class Detector(nn.Module):
    """Two-stage deformable detection transformer whose decoder starts as good as the encoder's proposals.

    Class logits are residuals on the proposals' logits and boxes are moves of the proposals' boxes, both zero until trained.

    Args:
        config: architecture.
        num_classes: C; 0 for a model that was only pre-trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.backbone = Backbone(
            config.backbone, pretrained=config.backbone_weights, levels=config.feature_levels, frozen_stages=config.frozen_stages
        )
        size, levels = config.dimension, len(config.feature_levels)
        self.encoder = DeformableEncoder(
            self.backbone.channels,
            size,
            heads=config.heads,
            points=config.points,
            feedforward=config.feedforward,
            layers=config.encoder_layers,
        )
        self.decoder = DeformableDecoder(
            size,
            heads=config.heads,
            levels=levels,
            points=config.points,
            feedforward=config.feedforward,
            layers=config.decoder_layers,
        )
        self.patch_queries = PatchQueries(config.patch_slots, size, self.backbone.channels[-1])
        if num_classes:
            self.proposals = ProposalHead(size, num_classes)
            self.query_content = nn.Sequential(nn.Linear(size, size), nn.LayerNorm(size))
            self.class_heads = nn.ModuleList(MLP(size, size, num_classes, 1).start_at_zero() for _ in range(config.decoder_layers))
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5), persistent=False)
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.5), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), RGB in [0, 1] → backbone maps, finest first."""
        maps: list[Tensor] = self.backbone((images - self.mean) / self.std)
        return maps

    def encode(self, images: Tensor) -> Memory:
        """Images (B, 3, H, W), RGB in [0, 1] → memory."""
        memory: Memory = self.encoder(self.features(images))
        return memory

    def forward(self, images: Tensor) -> Detections:
        """Detect.

        Args:
            images: (B, 3, H, W), RGB in [0, 1].
        """
        memory = self.encode(images)
        proposals: Proposals = self.proposals(memory)
        queries = select_proposals(
            proposals,
            self.config.num_queries,
            candidates=self.config.proposal_candidates,
            iou_threshold=self.config.proposal_iou,
        )
        decoded = self.decoder(memory, queries._replace(content=self.query_content(queries.content)))
        layers = [
            Layer(queries.logits + head(content).float(), boxes)
            for head, content, boxes in zip(self.class_heads, decoded.content, decoded.boxes, strict=True)
        ]
        return Detections(layers, proposals, memory)
