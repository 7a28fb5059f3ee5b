"""Random query patch detection: find in the image the patches that were cut out of it (UP-DETR, section 3)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, roi_align
from torchvision.transforms.v2.functional import gaussian_blur

from engine.config import StageConfig
from engine.models.detector import Detector
from engine.models.losses import box_losses, varifocal
from engine.models.matcher import hungarian_match, match_costs
from engine.models.queries import block_mask
from engine.pretext.patch_grid import informative, to_patches
from engine.training.data import Sample
from engine.training.detection import dropout_from, stack_images

__all__ = ["FoundPatches", "PatchConfig", "QueryPatchTask", "augment_patches", "sample_crops"]


_SHORTEST = 1 / 64
"""Shortest side of a uniform crop, as a share of the image's: the paper's 8 of 512 pixels."""
_CELL, _TRIES, _LEAST_SHOWN = 8, 8, 0.5
"""Pixels of a cell's side; crops that are drawn for one that is taken; the share of its cells that has to show something."""


class PatchConfig(StageConfig):
    """How query patches are cut and found."""

    patches: int = Field(default=10, ge=1)
    """M, patches an image; it must divide the detector's patch_slots."""
    crops: Literal["scale-aware", "uniform"] = "scale-aware"
    """How crops are drawn. scale-aware: by ``scale`` and ``aspect``, small ones as often as large ones. uniform: both sides uniformly, each
    for itself, as in the paper's code, where hardly any crop is as small as an aerial object."""
    scale: tuple[float, float] = (0.05, 0.5)
    """Range of a crop's side (the root of its area) as a share of the image's, log-uniform."""
    aspect: float = Field(default=2.0, ge=1)
    """Largest ratio of a crop's sides, log-uniform in both directions."""
    features: Literal["crop", "map"] = "crop"
    """What describes a patch. crop: a pass of the backbone over the patch, cut out, resized and changed in colour. map: the mean of the
    image's own map inside the crop, which costs nothing, and shows the patch as it is."""
    patch_size: int = Field(default=64, ge=32)
    """Side to which a patch is resized before the backbone describes it, in pixels."""
    query_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of slots that do not get their patch in training."""
    colour_jitter: float = Field(default=0.4, ge=0, lt=1)
    """Largest relative change of a patch's brightness, contrast and saturation, in 80 % of the patches."""
    grey: float = Field(default=0.2, ge=0, le=1)
    """Share of patches without colour."""
    blur: float = Field(default=0.0, ge=0, le=1)
    """Share of patches that are blurred (0.5 in the paper's code)."""
    mask: bool = True
    """Slots see those of their own patch alone in self-attention."""
    matching: Literal["group", "all"] = "group"
    """Which slots may answer for a patch: those that carry it, the cheapest of them; or, as in the paper's code, all, one-to-one."""
    shuffle: bool = False
    """Slots carry another patch at every step (object query shuffle)."""
    reconstruction_weight: float = Field(default=1.0, ge=0)
    """Weight of the feature reconstruction loss."""

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale must be two shares of the image's side, 0 < low ≤ high ≤ 1")
        return self


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def sample_crops(images: Tensor, config: PatchConfig, generator: torch.Generator) -> Tensor:
    """Random boxes (B, M, 4) as (cx, cy, w, h), normalised, wholly inside the images (B, 3, S, S), at most half of each in their padding.

    Where none of several that are drawn is so, the first is taken.
    """
    drawn = _drawn_crops((len(images), config.patches * _TRIES), config, generator).to(images.device)
    cells = informative(to_patches(images, _CELL)).view(len(images), 1, images.shape[-2] // _CELL, -1).float()
    corners = box_convert(drawn, "cxcywh", "xyxy") * cells.shape[-1]
    shown = roi_align(cells, list(corners), 4, sampling_ratio=1, aligned=True).mean((1, 2, 3))
    first = (shown.view(len(images), config.patches, _TRIES) >= _LEAST_SHOWN).int().argmax(2)
    return drawn.view(len(images), config.patches, _TRIES, 4).gather(2, first[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]


def _drawn_crops(shape: tuple[int, ...], config: PatchConfig, generator: torch.Generator) -> Tensor:
    """Random boxes (…, 4) inside a square, padding or not."""
    if config.crops == "uniform":
        sizes = _uniform((*shape, 2), _SHORTEST, 1 - _SHORTEST, generator)
        return torch.cat([sizes / 2 + torch.rand((*shape, 2), generator=generator) * (1 - sizes), sizes], -1)
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
    coloured = (luminance * (1 - saturation) + patches * saturation).clamp(0, 1)
    return _blurred(coloured, config.blur, generator) if config.blur else coloured


def _blurred(patches: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the patches (P, 3, S, S), each through a Gaussian of its own σ in [0.1, 2] pixels."""
    chosen = torch.rand(len(patches), generator=generator) < share
    sigmas = _uniform((len(patches),), 0.1, 2.0, generator)
    blurred = patches.clone()
    for index in chosen.nonzero()[:, 0].tolist():
        sigma = float(sigmas[index])
        blurred[index] = gaussian_blur(patches[index], [2 * round(2 * sigma) + 1] * 2, [sigma] * 2)
    return blurred


def _cut(images: Tensor, crops: Tensor, side: int) -> Tensor:
    """Patches (B·M, 3, side, side): crops (B, M, 4) of images, resized."""
    corners = box_convert(crops, "cxcywh", "xyxy") * images.shape[-1]
    cut: Tensor = roi_align(images.contiguous(), list(corners), side, aligned=True)
    return cut


class FoundPatches(NamedTuple):
    """Patches and where they were found; boxes as (x1, y1, x2, y2), normalised."""

    images: Tensor
    """(B, 3, S, S) in [0, 1]."""
    crops: Tensor
    """(B, M, 4) where the patches were cut out."""
    boxes: Tensor
    """(B, M, 4) where they were found."""
    patches: Tensor
    """(B, M, 3, s, s) in [0, 1]."""


class _Found(NamedTuple):
    """What one decoder layer found, and which slots answer for which patch."""

    logits: Tensor
    boxes: Tensor
    content: Tensor
    rows: Tensor
    """(B, M) the slot of each patch's own group that answers for it."""


class QueryPatchTask:
    """Localise query patches and reconstruct their features; the backbone describes them, and by default is frozen.

    Differences from the published code, unless the configuration says otherwise: crops are scale-aware, slots are matched within their
    patch's group (as the mask has it), patches keep their hue and are not blurred. Always: crops are not cut out of padding, the features
    to reconstruct are detached, groups are right for every M that divides N, slots are scored by varifocal loss, and images are turned
    and zoomed as in any training.

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

    def describe(self, images: Tensor, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Backbone features (B, M, C_5) of the patches at ``crops`` (B, M, 4), colours changed; a backbone that learns learns by them."""
        pixels = augment_patches(_cut(images, crops, self._config.patch_size), self._config, generator)
        described = self.model.features(pixels.contiguous(memory_format=torch.channels_last))[-1]
        return described.mean((2, 3)).float().reshape(len(crops), crops.shape[1], -1)

    def _pooled(self, coarsest: Tensor, crops: Tensor) -> Tensor:
        """What the image's own map (B, C_5, H, W) shows in crops (B, M, 4) on average, (B, M, C_5)."""
        corners = box_convert(crops, "cxcywh", "xyxy") * coarsest.shape[-1]
        means: Tensor = roi_align(coarsest.detach().float(), list(corners), 1, sampling_ratio=4, aligned=True)
        return means[:, :, 0, 0].view(len(crops), crops.shape[1], -1)

    def _match(self, logits: Tensor, boxes: Tensor, crops: Tensor) -> Tensor:
        """The slot (B, M) that answers for each patch: the cheapest of its group, or of all, one-to-one."""
        if self._config.matching == "all":
            return torch.stack([self._match_all(*each) for each in zip(logits, boxes, crops, strict=True)])
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

    def _match_all(self, logits: Tensor, boxes: Tensor, crops: Tensor) -> Tensor:
        labels = torch.zeros(len(crops), dtype=torch.long, device=boxes.device)
        slots, patches = hungarian_match(match_costs(logits, boxes, labels, crops))
        return slots[patches.argsort()]

    def _layer_loss(self, found: _Found, crops: Tensor, features: Tensor) -> dict[str, Tensor]:
        batch, patches, _ = crops.shape
        objects = batch * patches
        quality = torch.zeros_like(found.logits)
        quality.scatter_(1, found.rows[..., None], 1.0)

        def pick(values: Tensor) -> Tensor:
            return values.gather(1, found.rows[..., None].expand(-1, -1, values.shape[-1])).flatten(0, 1)

        distance, overlap = box_losses(pick(found.boxes), crops.flatten(0, 1))
        rebuilt = functional.normalize(self.model.patch_queries.reconstruction(pick(found.content)).float(), dim=-1)
        wanted = functional.normalize(features.detach().flatten(0, 1), dim=-1)
        return {
            "matched": varifocal(found.logits, quality) / objects,
            "distance": distance / objects,
            "overlap": overlap / objects,
            "reconstruction": (rebuilt - wanted).square().sum() / objects,
        }

    @property
    def classes(self) -> None:
        """None: patches have no class."""

    @torch.no_grad()
    def show(self, batch: list[Sample], generator: torch.Generator) -> FoundPatches:
        """Patches of a batch and where the slot that is surest of each sees it (the paper's figure 7)."""
        images = stack_images(batch)
        config, slots = self._config, self.model.patch_queries.count
        crops = sample_crops(images, config, generator)
        patches = _cut(images, crops, config.patch_size)
        memory, coarsest = self.model.encode_with_map(images)
        features = self._pooled(coarsest, crops) if config.features == "map" else self.describe(images, crops, generator)
        mask = block_mask(slots, config.patches, images.device) if config.mask else None
        decoded = self.model.decoder(memory, self.model.patch_queries(features), mask)
        logits = self.model.patch_queries.matched(decoded.content[-1])[..., 0].float()
        surest = logits.view(len(batch), config.patches, -1).argmax(2)
        surest = surest + torch.arange(config.patches, device=images.device) * (slots // config.patches)
        boxes = decoded.boxes[-1].gather(1, surest[..., None].expand(-1, -1, 4))
        corners = [box_convert(each, "cxcywh", "xyxy") for each in (crops, boxes)]
        return FoundPatches(images, corners[0], corners[1], patches.view(*crops.shape[:2], *patches.shape[1:]))

    def loss(self, batch: list[Sample], generator: torch.Generator, _done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """Cut patches, find them, compare; every decoder layer answers."""
        images = stack_images(batch)
        config, slots = self._config, self.model.patch_queries.count
        crops = sample_crops(images, config, generator)
        with dropout_from(generator, self.model.config.dropout):
            memory, coarsest = self.model.encode_with_map(images)
            features = self._pooled(coarsest, crops) if config.features == "map" else self.describe(images, crops, generator)
            keep = (torch.rand((len(batch), slots), generator=generator) >= config.query_dropout).float().to(images.device)
            order = torch.randperm(slots, generator=generator).to(images.device) if config.shuffle else None
            mask = block_mask(slots, config.patches, images.device) if config.mask else None
            decoded = self.model.decoder(memory, self.model.patch_queries(features, keep, order), mask)
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
