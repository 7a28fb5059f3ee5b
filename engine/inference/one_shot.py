"""Finding in other tiles what one patch shows (UP-DETR, section 4.3).

A detector with ``one_shot`` answers with every part of it, and its scores compare between tiles: it has learned that what is sought may
be absent. Of any other model the query slots answer, to all of which the patch's feature goes. In their pre-training every patch lies in
its image, so the matched score says which slot is nearest, never that the object is absent: such boxes are proposals, to be judged by what
they show.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert

from engine.models.detector import Detector
from engine.models.one_shot import describe_patches, find_patch

__all__ = ["OneShot", "detect_like", "patch_feature"]


class OneShot(NamedTuple):
    """What the slots found; N slots, in their order."""

    boxes: Tensor
    """(B, N, 4) as (x1, y1, x2, y2) in pixels of the square images."""
    matched: Tensor
    """(B, N) in [0, 1]; of slots comparable within an image only."""


@torch.inference_mode()
def patch_feature(model: Detector, patches: Tensor) -> Tensor:
    """Features (M, C_5) of patches (M, 3, s, s), RGB in [0, 1], as pre-training describes them but without changed colours."""
    return describe_patches(model, patches.contiguous(memory_format=torch.channels_last))


@torch.inference_mode()
def detect_like(model: Detector, images: Tensor, feature: Tensor, *, group: int = 10) -> OneShot:
    """Look for one patch in images (B, 3, S, S), RGB in [0, 1]; duplicates are not suppressed.

    Args:
        model: in evaluation mode; it needs no classes.
        images: square.
        feature: (C_5,) from :func:`patch_feature`.
        group: slots that see one another, as in pre-training with this many slots a patch; where it does not divide the slots, all do.
    """
    found = find_patch(model, images, feature, group=group)
    return OneShot(box_convert(found.boxes, "cxcywh", "xyxy") * images.shape[-1], found.matched)
