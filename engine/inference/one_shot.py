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
from torchvision.ops import box_convert, nms

from engine.boxes import Boxes
from engine.models.detector import Detector
from engine.models.one_shot import describe_patches, find_patch

__all__ = ["OneShot", "answers", "detect_like", "patch_feature"]

AT_ONCE = 10
"""Queries of an image in a pass."""


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


@torch.inference_mode()
def answers(model: Detector, image: Tensor, features: Tensor, *, iou_threshold: float = 0.5, most: int = 100) -> list[Boxes]:
    """What each of several queries finds on one image: boxes in its pixels, duplicates suppressed, the best first, with label 0.

    Args:
        model: with ``one_shot``, in evaluation mode.
        image: (3, S, S), RGB in [0, 1].
        features: (M, C_5) of the queries, from :func:`patch_feature`.
        iou_threshold: of two boxes that overlap by more, the weaker one is dropped.
        most: boxes a query.
    """
    size, found = image.shape[-1], []
    memory = model.encode(image[None].contiguous(memory_format=torch.channels_last))
    for some in torch.split(features, AT_ONCE):
        answer = model.detect(model.asked(memory, some[None])).layers[-1]
        for own, sure in zip(answer.boxes.float(), answer.scores[..., 0].float(), strict=True):
            boxes = box_convert(own, "cxcywh", "xyxy").clamp(0, 1) * size
            solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, scores = boxes[solid], sure[solid]
            kept = nms(boxes, scores, iou_threshold)[:most]
            found.append(Boxes(boxes[kept].cpu().numpy(), torch.zeros_like(kept).cpu().numpy(), scores[kept].cpu().numpy()))
    return found
