"""Random query patch detection: find in the image the patches that were cut out of it (UP-DETR, section 3)."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, roi_align

from engine.config import StageConfig
from engine.models.detector import Detector
from engine.models.losses import box_losses, varifocal
from engine.models.matcher import match_costs
from engine.models.queries import block_mask
from engine.training.data import Sample
from engine.training.detection import stack_images

__all__ = ["PatchConfig", "QueryPatchTask", "augment_patches", "sample_crops"]


class PatchConfig(StageConfig):
    """How query patches are cut and found."""

    patches: int = Field(default=10, ge=1)
    """M, patches an image; it must divide the detector's patch_slots."""
    scale: tuple[float, float] = (0.05, 0.5)
    """Range of a crop's side (the root of its area) as a share of the image's, log-uniform: aerial objects are small."""
    aspect: float = Field(default=2.0, ge=1)
    """Largest ratio of a crop's sides, log-uniform in both directions."""
    patch_size: int = Field(default=64, ge=32)
    """Side to which a patch is resized before the backbone describes it, in pixels."""
    query_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of slots that do not get their patch in training."""
    colour_jitter: float = Field(default=0.4, ge=0, lt=1)
    """Largest relative change of a patch's brightness, contrast and saturation, in 80 % of the patches."""
    grey: float = Field(default=0.2, ge=0, le=1)
    """Share of patches without colour."""
    reconstruction_weight: float = Field(default=1.0, ge=0)
    """Weight of the feature reconstruction loss."""

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale must be two shares of the image's side, 0 < low ≤ high ≤ 1")
        return self


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def sample_crops(images: int, config: PatchConfig, generator: torch.Generator) -> Tensor:
    """Random boxes (B, M, 4) as (cx, cy, w, h), normalised, wholly inside the image; sizes log-uniform over ``config.scale``.

    The paper draws sides uniformly (section 4.1), so that hardly any crop is as small as an aerial object.
    """
    shape = (images, config.patches)
    side = _uniform(shape, math.log(config.scale[0]), math.log(config.scale[1]), generator).exp()
    stretch = _uniform(shape, -0.5 * math.log(config.aspect), 0.5 * math.log(config.aspect), generator).exp()
    sizes = torch.stack([side * stretch, side / stretch], -1).clamp(max=1.0)
    centres = sizes / 2 + torch.rand((*shape, 2), generator=generator) * (1 - sizes)
    return torch.cat([centres, sizes], -1)


def augment_patches(patches: Tensor, config: PatchConfig, generator: torch.Generator) -> Tensor:
    """Change the colours of patches (P, 3, S, S) in [0, 1], each on its own: what is sought is the object, not its pixels."""
    count = len(patches)
    jittered = (torch.rand(count, generator=generator) < 0.8).float()
    brightness, contrast, saturation = (
        (1 + jittered * _uniform((count,), -config.colour_jitter, config.colour_jitter, generator)).view(-1, 1, 1, 1).to(patches)
        for _ in range(3)
    )
    colourless = (torch.rand(count, generator=generator) < config.grey).view(-1, 1, 1, 1).to(patches.device)
    weights = patches.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    patches = patches * brightness
    luminance = (patches * weights).sum(1, keepdim=True)
    patches = luminance.mean((2, 3), keepdim=True) * (1 - contrast) + patches * contrast
    luminance = (patches * weights).sum(1, keepdim=True)
    saturation = torch.where(colourless, torch.zeros_like(saturation), saturation)
    return (luminance * (1 - saturation) + patches * saturation).clamp(0, 1)


class _Found(NamedTuple):
    """What one decoder layer found, and which slots answer for which patch."""

    logits: Tensor
    boxes: Tensor
    content: Tensor
    rows: Tensor
    """(B, M) the slot of each patch's own group that answers for it."""


class QueryPatchTask:
    """Localise query patches and reconstruct their features; the backbone describes them, and by default is frozen.

    Differences from the published code: crops are scale-aware, slots are matched within their patch's group (as the mask has it), the
    features to reconstruct are detached, and groups are right for every M that divides N.

    Raises:
        ValueError: ``config.patches`` does not divide the detector's ``patch_slots``.
    """

    def __init__(self, model: Detector, config: PatchConfig, *, freeze_backbone: bool = True) -> None:
        if model.config.patch_slots % config.patches:
            raise ValueError(f"patches = {config.patches} does not divide patch_slots = {model.config.patch_slots}")
        self.model = model
        self._config = config
        if freeze_backbone:
            model.backbone.freeze(-1)

    @torch.no_grad()
    def describe(self, images: Tensor, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Backbone features (B, M, C_5) of the patches at ``crops`` (B, M, 4), colours changed."""
        batch, patches, _ = crops.shape
        size = images.shape[-1]
        corners = box_convert(crops.flatten(0, 1), "cxcywh", "xyxy") * size
        image_index = torch.arange(batch, device=images.device).repeat_interleave(patches)[:, None].to(corners)
        pixels = roi_align(images.contiguous(), torch.cat([image_index, corners], 1), self._config.patch_size, aligned=True)
        pixels = augment_patches(pixels, self._config, generator).contiguous(memory_format=torch.channels_last)
        return self.model.features(pixels)[-1].mean((2, 3)).float().view(batch, patches, -1)

    def _match(self, logits: Tensor, boxes: Tensor, crops: Tensor) -> Tensor:
        """The cheapest slot (B, M) of each patch's group."""
        batch, slots, _ = boxes.shape
        patches = crops.shape[1]
        group = slots // patches
        rows = torch.zeros(batch, patches, dtype=torch.long, device=boxes.device)
        label = torch.zeros(1, dtype=torch.long, device=boxes.device)
        for image in range(batch):
            for patch in range(patches):
                own = slice(patch * group, (patch + 1) * group)
                cost = match_costs(logits[image, own], boxes[image, own], label, crops[image, patch : patch + 1])
                rows[image, patch] = patch * group + cost[:, 0].argmin()
        return rows

    def _layer_loss(self, found: _Found, crops: Tensor, features: Tensor) -> dict[str, Tensor]:
        batch, patches, _ = crops.shape
        objects = batch * patches
        quality = torch.zeros_like(found.logits)
        quality.scatter_(1, found.rows[..., None], 1.0)

        def pick(values: Tensor) -> Tensor:
            return values.gather(1, found.rows[..., None].expand(-1, -1, values.shape[-1])).flatten(0, 1)

        distance, overlap = box_losses(pick(found.boxes), crops.flatten(0, 1))
        rebuilt = functional.normalize(self.model.patch_queries.reconstruction(pick(found.content)).float(), dim=-1)
        wanted = functional.normalize(features.flatten(0, 1), dim=-1)
        return {
            "matched": varifocal(found.logits, quality) / objects,
            "distance": distance / objects,
            "overlap": overlap / objects,
            "reconstruction": (rebuilt - wanted).square().sum() / objects,
        }

    @property
    def classes(self) -> None:
        """None: patches have no class."""

    def loss(self, batch: list[Sample], generator: torch.Generator, _done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """Cut patches, find them, compare; every decoder layer answers."""
        images = stack_images(batch)
        crops = sample_crops(len(batch), self._config, generator).to(images.device)
        features = self.describe(images, crops, generator)
        slots = self.model.patch_queries.count
        keep = (torch.rand((len(batch), slots), generator=generator) >= self._config.query_dropout).float().to(images.device)
        queries = self.model.patch_queries(features, keep)
        memory = self.model.encode(images)
        decoded = self.model.decoder(memory, queries, block_mask(slots, self._config.patches, images.device))
        total = torch.zeros((), device=images.device)
        log: dict[str, float] = {}
        weights = {"matched": 1.0, "distance": 5.0, "overlap": 2.0, "reconstruction": self._config.reconstruction_weight}
        for layer, (content, boxes) in enumerate(zip(decoded.content, decoded.boxes, strict=True)):
            logits = self.model.patch_queries.matched(content).float()
            with torch.no_grad():
                rows = self._match(logits, boxes, crops)
            parts = self._layer_loss(_Found(logits, boxes, content, rows), crops, features)
            for name, part in parts.items():
                total = total + weights[name] * part
                log[f"layer{layer}_{name}"] = float(part.detach())
        return total, log
