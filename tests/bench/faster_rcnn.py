"""What a user would pick instead: torchvision's Faster R-CNN with an FPN on the same backbone weights, images, flips and turns.

    python tests/bench/faster_rcnn.py OUT.json [--images-seen 10400] [--seed 0] [--fraction 0.1 --draw 0] [--dev] [--threads 1]

Needs TILEHAWK_DATA. Writes AP, AP50, AP75, AP_S, AP_M, AP_L (percent) on val.json after a cosine schedule, or on the dev part of train.json
with --dev. The same command goes on from the last checkpoint beside OUT.json. ``--quick`` computes the depthwise
convolutions' gradients as Tilehawk's backbone does (same numbers up to rounding, sooner), for a machine without time.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from importlib import metadata
from pathlib import Path

import torch
from nwpu import CLASSES, Picture, coco_numbers, load, subset, without_dev
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from engine.files import write_json
from engine.models.backbone import Backbone

BATCH = 8
RATES = {"backbone": 1e-4, "rest": 4e-4}
CLIP = 5.0
WARMUP_STEPS = 50
CHECKPOINT_SECONDS = 120.0


class Pyramid(nn.Module):
    """EfficientNet-Lite0 at strides 8, 16, 32, stem and two stages frozen, then an FPN with a fourth, pooled level."""

    out_channels = 128

    def __init__(self, *, quick: bool) -> None:
        super().__init__()
        self.body = Backbone("tf_efficientnet_lite0", pretrained="packaged", levels=(2, 3, 4), frozen_stages=3, quick=quick)
        self.fpn = FeaturePyramidNetwork(list(self.body.channels), self.out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16):
            levels = self.fpn({str(index): level for index, level in enumerate(self.body(images))})
        return {name: level.float() for name, level in levels.items()}


def build(size: int, *, quick: bool) -> FasterRCNN:
    sides = tuple((side, side * 2 ** (1 / 3), side * 2 ** (2 / 3)) for side in (16.0, 48.0, 96.0, 192.0))
    return FasterRCNN(
        Pyramid(quick=quick),
        CLASSES + 1,
        min_size=size,
        max_size=size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * 4),
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=128,
        box_detections_per_img=100,
    )


def changed(picture: Picture, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of the eight orientations, a little lighter or darker."""
    image, boxes, size = picture.pixels.float() / 255, picture.boxes, picture.pixels.shape[-1]
    mirror, flip, turn, light = torch.rand(4, generator=draw).tolist()
    if mirror < 0.5:
        image, boxes = image.flip(2), torch.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)
    if flip < 0.5:
        image, boxes = image.flip(1), torch.stack([boxes[:, 0], size - boxes[:, 3], boxes[:, 2], size - boxes[:, 1]], 1)
    if turn < 0.5:
        image, boxes = image.transpose(1, 2).contiguous(), boxes[:, [1, 0, 3, 2]]
    return (image * (0.8 + 0.4 * light)).clamp(0, 1), boxes


@torch.no_grad()
def numbers(model: FasterRCNN, pictures: list[Picture], device: str) -> dict[str, float]:
    model.eval()
    found = []
    for start in range(0, len(pictures), BATCH):
        images = [picture.pixels.to(device).float() / 255 for picture in pictures[start : start + BATCH]]
        found += [(out["boxes"].cpu(), out["scores"].cpu(), out["labels"].cpu() - 1) for out in model(images)]
    model.train()
    return coco_numbers(pictures, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images-seen", type=int, default=10400)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    pictures = load("train", chosen.size)
    train, judged = without_dev(pictures) if chosen.dev else (pictures, load("val", chosen.size))
    if chosen.fraction < 1:
        train = subset(train, chosen.fraction, chosen.draw)
    torch.manual_seed(chosen.seed)
    model = build(chosen.size, quick=chosen.quick).to(chosen.device).train()
    parts: dict[str, list[nn.Parameter]] = {"backbone": [], "rest": []}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            parts["backbone" if name.startswith("backbone.body") else "rest"].append(weight)
    optimizer = torch.optim.AdamW([{"params": parts[part], "lr": rate} for part, rate in RATES.items()], weight_decay=1e-4)
    checkpoint = chosen.out.with_suffix(".ckpt")
    first, spent = 0, 0.0
    if checkpoint.exists():
        held = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(held["model"])
        optimizer.load_state_dict(held["optimizer"])
        first, spent = held["step"], held["seconds"]
    a_pass = len(train) // BATCH
    began = saved = time.monotonic()
    step = first
    for step in range(first, math.ceil(chosen.images_seen / BATCH)):
        draw = torch.Generator().manual_seed(1_000_003 * chosen.seed + step)
        torch.manual_seed(1_000_003 * chosen.seed + step)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(7919 * chosen.seed + step // a_pass)).tolist()
        batch = [train[index] for index in order[step % a_pass * BATCH :][:BATCH]]
        shape = min(1, (step + 1) / WARMUP_STEPS) * (
            0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, step * BATCH / chosen.images_seen)))
        )
        for group, rate in zip(optimizer.param_groups, RATES.values(), strict=True):
            group["lr"] = rate * shape
        images, targets = [], []
        for picture in batch:
            image, boxes = changed(picture, draw)
            images.append(image.to(chosen.device))
            targets.append({"boxes": boxes.to(chosen.device), "labels": picture.labels.to(chosen.device) + 1})
        loss = torch.stack(list(model(images, targets).values())).sum()
        if not torch.isfinite(loss):
            raise SystemExit(f"The loss is {float(loss)} at step {step}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        now = time.monotonic()
        if step % 50 == 0:
            print(f"{(step + 1) * BATCH} images, loss {float(loss):.3f}, {now - began + spent:.0f} s", flush=True)
        if now - saved > CHECKPOINT_SECONDS:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "seconds": now - began + spent}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            saved = now
    seconds = time.monotonic() - began + spent
    document = {name: value for name, value in vars(chosen).items() if name != "out"} | numbers(model, judged, chosen.device)
    document |= {"model": "faster_rcnn", "images": len(train), "images_seen": (step + 1) * BATCH, "seconds": round(seconds, 1)}
    document |= {"versions": {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "faster-coco-eval")}}
    write_json(chosen.out, document)
    checkpoint.unlink(missing_ok=True)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
