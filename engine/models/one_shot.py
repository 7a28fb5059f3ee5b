"""Looking for a query patch (UP-DETR, section 4.3), as one function of images and patch feature: by the whole detector or by the slots."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from engine.models.detector import Detector
from engine.models.queries import block_mask

__all__ = ["Found", "describe_patches", "find_patch"]


class Found(NamedTuple):
    """What was found, by N queries or slots."""

    boxes: Tensor
    """(B, N, 4) as (cx, cy, w, h), normalised."""
    matched: Tensor
    """(B, N) in [0, 1]; of slots comparable within an image only."""


def describe_patches(model: Detector, patches: Tensor) -> Tensor:
    """Features (M, C_5) of patches (M, 3, s, s), RGB in [0, 1], as pre-training describes them but without changed colours."""
    return model.features(patches)[-1].mean((2, 3)).float()


def find_patch(model: Detector, images: Tensor, feature: Tensor, *, group: int = 10) -> Found:
    """Look for one patch in images (B, 3, S, S), RGB in [0, 1].

    Args:
        model: one with ``one_shot`` answers by all its parts, any other by its slots, for which it needs no classes.
        images: square.
        feature: (C_5,) from :func:`describe_patches`.
        group: slots that see one another, as in pre-training with this many slots a patch; where it does not divide the slots, all do.
    """
    if model.config.one_shot:
        found = model.detect(model.asked(model.encode(images), feature.view(1, 1, -1).expand(images.shape[0], -1, -1))).layers[-1]
        return Found(found.boxes, found.scores[..., 0])
    slots = model.patch_queries.count
    groups = slots // group if slots % group == 0 else 1
    queries = model.patch_queries(feature.view(1, 1, -1).expand(images.shape[0], -1, -1))
    decoded = model.decoder(model.encode(images), queries, block_mask(slots, groups, images.device))
    matched = model.patch_queries.matched(decoded.content[-1])[..., 0].float().sigmoid()
    return Found(decoded.boxes[-1], matched)
