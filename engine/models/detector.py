"""The whole detection transformer: backbone → encoder → proposals → queries → decoder → boxes and classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.models.architecture import DetectorConfig
from engine.models.backbone import Backbone
from engine.models.conditioning import QueryCondition
from engine.models.decoder_deformable import DeformableDecoder
from engine.models.decoder_dense import DenseDecoder
from engine.models.denoising import DenoisingQueries, NoisedObjects
from engine.models.encoder import DeformableEncoder, Memory, ProposalHead, Proposals
from engine.models.encoder_dense import DenseEncoder
from engine.models.heads import MLP, prior_bias
from engine.models.queries import CoordinateQueries, DenseQueries, LearnedQueries, PatchQueries, Queries, select_proposals
from engine.models.regions import RegionStage
from engine.models.two_stage import LinearProposalHead

__all__ = ["Denoised", "Detections", "Detector", "DetectorConfig", "Layer"]


class Layer(NamedTuple):
    """What one decoder layer says."""

    logits: Tensor
    """(B, N, C)."""
    boxes: Tensor
    """(B, N, 4) as (cx, cy, w, h), normalised."""
    no_object: Tensor | None = None
    """(B, N) logit of "nothing here", with which the classes share one softmax (DETR); None where classes are independent."""

    starts: Tensor | None = None
    """(B, N, 4) the boxes, or (B, N, 2) the points, that the layer started from; None where it started from none."""

    @property
    def scores(self) -> Tensor:
        """Class probabilities (B, N, C)."""
        if self.no_object is None:
            return self.logits.sigmoid()
        return torch.cat([self.logits, self.no_object[..., None]], -1).softmax(-1)[..., :-1]


class Denoised(NamedTuple):
    """What every decoder layer makes of noised objects."""

    layers: list[Layer]
    """M slots each."""
    noised: NoisedObjects


class Detections(NamedTuple):
    """Everything that a forward pass computes; the last layer is the answer, the others are trained too."""

    layers: list[Layer]
    proposals: Proposals | None
    """None without a first stage."""
    memory: Memory
    denoised: Denoised | None = None
    """None without denoising."""
    regions: Sequence[Layer] = ()
    """What the region stage says at each look, of the known boxes too where they were given; empty without one."""


def _encoder(config: DetectorConfig, channels: tuple[int, ...]) -> DeformableEncoder | DenseEncoder:
    if config.architecture == "detr":
        return DenseEncoder(
            channels[0],
            config.dimension,
            heads=config.heads,
            feedforward=config.feedforward,
            layers=config.encoder_layers,
            norm=config.encoder_norm,
            dropout=config.dropout,
        )
    return DeformableEncoder(
        channels,
        config.dimension,
        heads=config.heads,
        points=config.points,
        feedforward=config.feedforward,
        layers=config.encoder_layers,
        norm=config.encoder_norm,
        dropout=config.dropout,
        position=config.position,
        extra_level=config.extra_level,
        pyramid=config.pyramid,
        pyramid_norms=config.pyramid_norms,
    )


def _decoder(config: DetectorConfig) -> DeformableDecoder | DenseDecoder:
    if config.architecture == "detr":
        return DenseDecoder(
            config.dimension,
            heads=config.heads,
            feedforward=config.feedforward,
            layers=config.decoder_layers,
            norm=config.decoder_norm,
            dropout=config.dropout,
        )
    return DeformableDecoder(
        config.dimension,
        heads=config.heads,
        levels=len(config.feature_levels) + config.extra_level,
        points=config.points,
        feedforward=config.feedforward,
        layers=config.decoder_layers,
        norm=config.decoder_norm,
        dropout=config.dropout,
        box_moves=config.box_moves,
        refinement=config.refinement,
        look_forward_twice=config.look_forward_twice,
        region_features=config.region_features,
        region_layers=config.region_layers,
        region_hidden=config.region_hidden,
    )


def _class_head(dimension: int, classes: int, *, residual: bool) -> MLP:
    head = MLP(dimension, dimension, classes, 1)
    if residual:
        return head.start_at_zero()
    nn.init.constant_(head[-1].bias, prior_bias())  # type: ignore[arg-type]
    return head


class Detector(nn.Module):
    """A detection transformer: DETR, or Deformable DETR with the levers that its configuration names.

    By default it has three parts that answer: the encoder proposes boxes, the region stage looks into them, and the decoder, whose
    queries they are, looks around and at one another. Each moves the boxes of the one before.

    Args:
        config: architecture.
        num_classes: C; 0 for a model that was only pre-trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        finer = (config.feature_levels[0] - 1,) if config.reads_fine else ()
        self.backbone = Backbone(
            config.backbone,
            pretrained=config.backbone_weights,
            levels=(*finer, *config.feature_levels),
            frozen_stages=config.frozen_stages,
        )
        if finer and self.backbone.strides[0] * 2 != self.backbone.strides[1]:
            raise UsageError(
                f"feature_levels = {list(config.feature_levels)} of {config.backbone}: strides {list(self.backbone.strides)}",
                expected="the level before with half the first one's stride",
                remedy="Set region_fine to false",
            )
        size, channels = config.dimension, self.backbone.channels[len(finer) :]
        self.encoder = _encoder(config, channels)
        self.decoder = _decoder(config)
        self.patch_queries: PatchQueries | DenseQueries
        if config.architecture == "detr":
            self.patch_queries = DenseQueries(config.num_queries, size, channels[-1])
        else:
            self.patch_queries = PatchQueries(config.patch_slots, size, channels[-1])
        if config.one_shot:
            self.condition = QueryCondition(size, channels[-1])
        if num_classes and config.architecture == "detr":
            self.class_heads = nn.ModuleList([MLP(size, size, num_classes + 1, 1)])
        elif num_classes:
            self._make_detection_parts(config, num_classes)
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.backbone.std).view(1, 3, 1, 1), persistent=False)

    def _make_detection_parts(self, config: DetectorConfig, num_classes: int) -> None:
        size = config.dimension
        if config.two_stage:
            self.proposals = (
                ProposalHead(size, num_classes)
                if config.proposal_head == "tower"
                else LinearProposalHead(size, num_classes, box_moves=config.box_moves)
            )
        if config.region_stage:
            self.region_stage = RegionStage(
                size,
                num_classes,
                side=config.region_features,
                channels=config.region_channels,
                hidden=config.region_stage,
                fine=self.backbone.channels[0] if config.reads_fine else 0,
            )
        if config.queries == "proposals":
            self.query_content = nn.Sequential(nn.Linear(size, size), nn.LayerNorm(size))
        elif config.queries == "mixed":
            self.object_queries: nn.Module = nn.Embedding(config.num_queries, size)
        elif config.queries == "coordinates":
            self.object_queries = CoordinateQueries(size)
        else:
            self.object_queries = LearnedQueries(config.num_queries, size)
            assert isinstance(self.decoder, DeformableDecoder)
            self.decoder.start_small()
        heads = config.decoder_layers if config.refinement else 1
        self.class_heads = nn.ModuleList(_class_head(size, num_classes, residual=config.residual_classes) for _ in range(heads))
        if config.denoising_groups:
            self.denoising = DenoisingQueries(num_classes, size)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a cell of each of ``features``."""
        return self.backbone.strides[-len(self.config.feature_levels) :]

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Backbone maps, the one that only the region stage reads included."""
        maps: list[Tensor] = self.backbone((images - self.mean) / self.std)
        return maps

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), RGB in [0, 1] → backbone maps of ``feature_levels``, finest first."""
        return self._maps(images)[-len(self.config.feature_levels) :]

    def encode(self, images: Tensor) -> Memory:
        """Images (B, 3, H, W), RGB in [0, 1] → memory."""
        return self.encode_with_map(images)[0]

    def encode_with_map(self, images: Tensor) -> tuple[Memory, Tensor]:
        """Images (B, 3, H, W), RGB in [0, 1] → memory, and the backbone's coarsest map (B, C_5, H, W), which can describe patches."""
        maps = self._maps(images)
        memory: Memory = self.encoder(maps[-len(self.config.feature_levels) :])
        return (memory._replace(fine=maps[0]) if self.config.reads_fine else memory), maps[-1]

    def _select(self, proposals: Proposals) -> Queries:
        config = self.config
        ranked = proposals._replace(logits=proposals.logits[..., :1]) if config.queries == "coordinates" else proposals
        queries = select_proposals(ranked, config.num_queries, candidates=config.proposal_candidates, iou_threshold=config.proposal_iou)
        if config.queries == "proposals":
            return queries._replace(content=self.query_content(queries.content))
        if config.queries == "coordinates":
            chosen: Queries = self.object_queries(queries.boxes)
            return chosen
        assert isinstance(self.object_queries, nn.Embedding)
        content = self.object_queries.weight[: queries.boxes.shape[1]]
        return queries._replace(content=content[None].expand(queries.boxes.shape[0], -1, -1))

    def _start(self, memory: Memory, batch: int) -> tuple[Queries, Proposals | None]:
        """Where the decoder starts, and the proposals that it starts from."""
        if self.config.two_stage:
            proposals: Proposals = self.proposals(memory)
            return self._select(proposals), proposals
        if isinstance(self.patch_queries, DenseQueries):
            return self.patch_queries.plain(batch), None
        queries: Queries = self.object_queries(batch)
        return queries, None

    def _answer(self, index: int, content: Tensor, boxes: Tensor, starting_logits: Tensor | None) -> Layer:
        said = self.class_heads[min(index, len(self.class_heads) - 1)](content).float()
        if self.config.architecture == "detr":
            return Layer(said[..., :-1], boxes, said[..., -1])
        if self.config.residual_classes:
            assert starting_logits is not None
            said = starting_logits + said
        return Layer(said, boxes)

    def _look_closer(self, memory: Memory, queries: Queries, known: Tensor | None) -> tuple[Queries, list[Layer]]:
        """The queries after the region stage, and at each of its looks what it says of them and of known boxes."""
        count = queries.boxes.shape[1]
        boxes = queries.boxes if known is None else torch.cat([queries.boxes, known.to(queries.boxes)], 1)
        looks: list[Layer] = []
        tokens, shapes = self.region_stage.view(memory)
        for _ in range(self.config.region_looks + (0 if self.training else self.config.further_looks)):
            said = self.region_stage(tokens, shapes, boxes)
            looks.append(Layer(said.logits, said.boxes, starts=boxes))
            moved = said.boxes.detach()
            boxes = torch.cat([moved[..., :2], moved[..., 2:].clamp(min=1e-4)], -1)
        content = queries.content + said.content[:, :count]
        return queries._replace(content=content, boxes=boxes[:, :count], logits=said.logits[:, :count].detach()), looks

    def _between(self, regions: Layer, decoded: Layer) -> Layer:
        """What is answered: between the region stage, whose boxes fit tighter, and the decoder, which finds more."""
        share, count = self.config.decoder_share, decoded.boxes.shape[1]
        logits = torch.lerp(regions.logits[:, :count], decoded.logits, share)
        return decoded._replace(logits=logits, boxes=torch.lerp(regions.boxes[:, :count], decoded.boxes, share))

    def asked(self, memory: Memory, patches: Tensor) -> Memory:
        """Memory of B images, each as it looks to M query patches: B · M of them, one image after the other.

        Args:
            memory: of the images.
            patches: (B, M, C_5) what the backbone says of the patches; a detector with ``one_shot`` is needed.
        """
        each = patches.shape[1]
        tokens = self.condition(memory.tokens, patches)
        return memory._replace(tokens=tokens, fine=None if memory.fine is None else memory.fine.repeat_interleave(each, 0))

    def forward(self, images: Tensor, noised: NoisedObjects | None = None, known: Tensor | None = None) -> Detections:
        """Detect.

        Args:
            images: (B, 3, H, W), RGB in [0, 1].
            noised: objects to repair, in training with denoising.
            known: (B, K, 4) boxes as (cx, cy, w, h), normalised, for which the region stage is to answer too, in training.
        """
        return self.detect(self.encode(images), noised, known)

    def detect(self, memory: Memory, noised: NoisedObjects | None = None, known: Tensor | None = None) -> Detections:
        """As :meth:`forward`, from memory on."""
        queries, proposals = self._start(memory, memory.tokens.shape[0])
        regions: list[Layer] = []
        if proposals is not None and self.config.region_stage:
            queries, regions = self._look_closer(memory, queries, known)
        mask, first = None, 0
        if noised is not None:
            queries, mask = self.denoising.join(noised, queries)
            first = noised.labels.shape[1]
        decoded = self.decoder(memory, queries, mask)
        layers = [
            self._answer(index, content, boxes, queries.logits)._replace(starts=starts)
            for index, (content, boxes, starts) in enumerate(zip(decoded.content, decoded.boxes, decoded.starts, strict=True))
        ]
        if noised is None:
            if regions and not self.training:
                layers[-1] = self._between(regions[-1], layers[-1])
            return Detections(layers, proposals, memory, regions=regions)
        repaired = [Layer(layer.logits[:, :first], layer.boxes[:, :first]) for layer in layers]
        answers = [
            Layer(layer.logits[:, first:], layer.boxes[:, first:], starts=layer.starts[:, first:] if layer.starts is not None else None)
            for layer in layers
        ]
        return Detections(answers, proposals, memory, Denoised(repaired, noised), regions)
