"""Training step and forward pass of our detector and of the transformers library's Deformable DETR, in turns, on this machine's CPU.

    python tests/bench/transformers_speed.py OUT.json [--rounds 9] [--threads 1] [--batch 4] [--only nano-fp32 …]

Needs the extra ``oracle``. Where a set-up is "same", both have EfficientNet-Lite0 with the same frozen parts, the same levels, layers,
widths, learned queries, weights and images, the same precision (autocast or not) and memory format (channels last), and losses of the
same definition (focal, L1, GIoU after Hungarian matching, on every layer), each computed by its own library; which answers are the same
is checked in float32 before anything is timed. "default" is each as it comes, with the same backbone: our preset nano and the
library's own configuration. A training step is loss, gradients, clipping and AdamW.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.files import write_json
from engine.models.backbone import Backbone
from engine.models.detector import Detector, DetectorConfig
from engine.models.import_names import from_transformers, load_imported
from engine.models.losses import detection_loss
from engine.models.presets import DEFORMABLE_DETR
from engine.models.targets import Targets

CLASSES, SIDE, OBJECTS = 10, 320, 8
SAME: dict[str, dict[str, Any]] = {
    "nano": {"dimension": 128, "feedforward": 512, "encoder_layers": 1, "decoder_layers": 3, "num_queries": 100},
    "paper": {
        "dimension": 256,
        "feedforward": 1024,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "num_queries": 300,
        "extra_level": True,
    },
}
"""nano: three levels and the widths and layers of our smallest preset. paper: those of Deformable DETR."""
Step = Callable[[], Tensor]


def same(widths: dict[str, Any]) -> tuple[Detector, nn.Module]:
    """Our detector and theirs, the same weights in both; their group norms get as many groups as ours where they would not."""
    config = DetectorConfig(**DEFORMABLE_DETR | widths | {"image_size": SIDE})
    ours = Detector(config, CLASSES)
    theirs = library(
        d_model=config.dimension,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_ffn_dim=config.feedforward,
        decoder_ffn_dim=config.feedforward,
        num_queries=config.num_queries,
        num_feature_levels=len(config.feature_levels) + config.extra_level,
        with_box_refine=True,
        dropout=0.0,
        out_indices=config.feature_levels,
    )
    for module in theirs.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = config.dimension // 8
    imported = load_imported(ours, from_transformers(theirs.state_dict(), config))
    assert imported.unused == (), imported.unused
    return ours, theirs


def defaults() -> tuple[Detector, nn.Module]:
    """Each as it comes, on the same backbone: ours has proposals, theirs has not."""
    return Detector(DetectorConfig(image_size=SIDE), CLASSES), library(out_indices=(2, 3, 4))


def library(*, out_indices: tuple[int, ...], **settings: Any) -> nn.Module:
    """Their Deformable DETR, the loss of every layer included; other settings stay as they come.

    The library (5.23) puts frozen batch norms in the place of timm's, and loses the activations that timm keeps inside them: so the
    network is put back as timm makes it, its batch norms frozen as torch does that.
    """
    backbone = {
        "model_type": "timm_backbone",
        "backbone": "tf_efficientnet_lite0",
        "use_pretrained_backbone": False,
        "out_indices": list(out_indices),
    }
    config = transformers.DeformableDetrConfig(backbone_config=backbone, num_labels=CLASSES, auxiliary_loss=True, **settings)
    model: nn.Module = transformers.DeformableDetrForObjectDetection(config)
    model.model.backbone.model = Backbone(  # type: ignore[union-attr]
        "tf_efficientnet_lite0", pretrained="none", levels=out_indices, frozen_stages=0, quick=False
    ).body
    return model


def freeze_alike(ours: Detector, theirs: nn.Module) -> int:
    """Freeze in theirs the convolutions of the backbone that are frozen in ours; returns how many weights train there."""
    frozen = {name.removeprefix("backbone.body.") for name, weight in ours.named_parameters() if not weight.requires_grad}
    trained = 0
    for name, weight in theirs.named_parameters():
        inside = name.partition("._backbone.")[2] or name.partition("backbone.model.")[2]
        if inside:
            weight.requires_grad_(inside not in frozen and weight.ndim > 1)
            trained += weight.requires_grad
    assert trained, "none of their backbone's names was recognised"
    return trained


def train_theirs(model: nn.Module) -> None:
    """Training mode, batch norms frozen."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def scene(batch: int) -> tuple[Tensor, list[Targets]]:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, SIDE, SIDE, generator=draw).contiguous(memory_format=torch.channels_last)
    targets = []
    for _ in range(batch):
        centres = 0.2 + 0.6 * torch.rand(OBJECTS, 2, generator=draw)
        sides = 0.05 + 0.25 * torch.rand(OBJECTS, 2, generator=draw)
        targets.append(Targets(torch.randint(CLASSES, (OBJECTS,), generator=draw), torch.cat([centres, sides], 1)))
    return images, targets


def autocast(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def their_input(ours: Detector, images: Tensor) -> Tensor:
    return (images - ours.mean) / ours.std


def forwards(ours: Detector, theirs: nn.Module, images: Tensor, precision: str) -> dict[str, Step]:
    @torch.no_grad()
    def our_pass() -> Tensor:
        with autocast(precision):
            return ours(images).layers[-1].logits  # type: ignore[no-any-return]

    @torch.no_grad()
    def their_pass() -> Tensor:
        with autocast(precision):
            return theirs(pixel_values=their_input(ours, images)).logits  # type: ignore[no-any-return]

    return {"ours": our_pass, "theirs": their_pass}


def training_steps(ours: Detector, theirs: nn.Module, images: Tensor, targets: list[Targets], precision: str) -> dict[str, Step]:
    labels = [{"class_labels": target.labels, "boxes": target.boxes} for target in targets]

    def our_loss() -> Tensor:
        with autocast(precision):
            detections = ours(images)
        return detection_loss(detections, targets, ours.config)[0]

    def their_loss() -> Tensor:
        with autocast(precision):
            return theirs(pixel_values=their_input(ours, images), labels=labels).loss  # type: ignore[no-any-return]

    return {"ours": stepping(ours, our_loss), "theirs": stepping(theirs, their_loss)}


def stepping(model: nn.Module, loss: Step) -> Step:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return value.detach()

    return step


def in_turns(steps: dict[str, Step], rounds: int) -> dict[str, Any]:
    """Milliseconds of each in every round, after one that does not count; the order changes from round to round."""
    for step in steps.values():
        step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            steps[name]()
            taken[name].append(round(1000 * (time.perf_counter() - began), 2))
    ratios = [theirs / ours for ours, theirs in zip(taken["ours"], taken["theirs"], strict=True)]
    medians = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    return {
        "median_ms": medians,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ms": taken,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=[])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    names = ("torch", "torchvision", "timm", "transformers")
    document: dict[str, Any] = {
        "command": " ".join(["python", "tests/bench/transformers_speed.py", *sys.argv[1:]]),
        "threads": chosen.threads,
        "batch": chosen.batch,
        "side": SIDE,
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: metadata.version(name) for name in names},
        "arms": {},
    }
    images, targets = scene(chosen.batch)
    for setup in (*SAME, "default"):
        torch.manual_seed(0)
        ours, theirs = same(SAME[setup]) if setup in SAME else defaults()
        trained = freeze_alike(ours, theirs)
        ours, theirs = (model.to(memory_format=torch.channels_last) for model in (ours, theirs))
        for precision in ("fp32", "bf16"):
            arm = f"{setup}-{precision}"
            if chosen.only and arm not in chosen.only:
                continue
            ours.eval(), theirs.eval()
            entry: dict[str, Any] = {"same": setup in SAME, "backbone_weights_trained": trained}
            passes = forwards(ours, theirs, images, precision)
            if setup in SAME and precision == "fp32":
                entry["largest_difference"] = float((passes["ours"]() - passes["theirs"]()).abs().max())
                assert entry["largest_difference"] < 1e-3, entry
            entry["forward"] = in_turns(passes, chosen.rounds)
            ours.train(), train_theirs(theirs)
            entry["step"] = in_turns(training_steps(ours, theirs, images, targets, precision), chosen.rounds)
            document["arms"][arm] = entry
            write_json(chosen.out, document)
            print(arm, {part: (entry[part]["median_ms"], entry[part]["ratio"]) for part in ("forward", "step")}, flush=True)


if __name__ == "__main__":
    main()
