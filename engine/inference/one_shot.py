"""Finding in other tiles what one patch shows, with the query slots of pre-training (UP-DETR, section 4.3).

The patch's feature goes to all slots. In pre-training every patch lies in its image, so the matched score says which slot is nearest, never
that the object is absent: scores of different tiles do not compare. The boxes are proposals, to be judged by what they show.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert

from engine.models.detector import Detector
from engine.models.queries import block_mask

__all__ = ["OneShot", "detect_like", "patch_feature"]


class OneShot(NamedTuple):
    """What the slots found; N slots, in their order."""

    boxes: Tensor
    """(B, N, 4) as (x1, y1, x2, y2) in pixels of the square images."""
    matched: Tensor
    """(B, N) in [0, 1]; comparable within an image only."""


@torch.inference_mode()
def patch_feature(model: Detector, patches: Tensor) -> Tensor:
    """Features (M, C_5) of patches (M, 3, s, s), RGB in [0, 1], as pre-training describes them but without changed colours."""
    return model.features(patches.contiguous(memory_format=torch.channels_last))[-1].mean((2, 3)).float()


@torch.inference_mode()
def detect_like(model: Detector, images: Tensor, feature: Tensor, *, group: int = 10) -> OneShot:
    """Look for one patch in images (B, 3, S, S), RGB in [0, 1].

    Args:
        model: in evaluation mode; it needs no classes.
        images: square.
        feature: (C_5,) from :func:`patch_feature`.
        group: slots that see one another, as in pre-training with this many slots a patch; where it does not divide the slots, all do.
    """
    slots = model.patch_queries.count
    groups = slots // group if slots % group == 0 else 1
    queries = model.patch_queries(feature.view(1, 1, -1).expand(len(images), 1, -1))
    decoded = model.decoder(model.encode(images), queries, block_mask(slots, groups, images.device))
    boxes = box_convert(decoded.boxes[-1], "cxcywh", "xyxy") * images.shape[-1]
    matched = model.patch_queries.matched(decoded.content[-1])[..., 0].float().sigmoid()
    return OneShot(boxes, matched)
