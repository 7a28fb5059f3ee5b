"""Our detector on NWPU VHR-10 under the protocol of faster_rcnn.py beside it: any lever, any schedule, one result file a run.

    python tests/bench/detectors.py OUT.json [--images-seen 10400] [--seed 0] [--fraction 0.1 --draw 0] [--dev] [--threads 1]
        [--preset nano] [--set detector.region_hidden=512 --set schedule.batch_size=8 …]

Needs TILEHAWK_DATA. Writes the averaged weights at the end of the schedule, and their AP, AP50, AP75, AP_S, AP_M, AP_L (percent) on
val.json, or on the dev part of train.json with --dev, there of every part that answers too. The same command goes on from its last
checkpoint, in OUT.run beside OUT.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from nwpu import CLASSES, Picture, coco_numbers, load, subset, without_dev
from safetensors.torch import save_file
from torch import Tensor
from torchvision.ops import batched_nms

from engine.files import write_json
from engine.inference.predict import predict_batch
from engine.models.detector import Detections, Detector, DetectorConfig, Layer
from engine.models.presets import PRESETS
from engine.training.checkpoint import CheckpointStore
from engine.training.data import Sample
from engine.training.detection import DetectionTask
from engine.training.loop import ScheduleConfig, seeded, train

BATCH = 8
LEAST_SCORE = 0.001


class Pictures:
    """Pictures as training samples."""

    def __init__(self, pictures: list[Picture]) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, index: int) -> Sample:
        picture = self._pictures[index]
        return Sample(picture.pixels, picture.boxes, picture.labels)

    def name(self, index: int) -> str:
        return f"image {self._pictures[index].image_id}"


@torch.no_grad()
def numbers(model: Detector, pictures: list[Picture], iou_threshold: float, *, bf16: bool) -> dict[str, float]:
    """Metrics of the hundred best pairs of a box and a class of each picture, duplicates of a class suppressed: as Faster R-CNN's are."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(pictures), BATCH):
        images = torch.stack([picture.pixels for picture in pictures[start : start + BATCH]]).to(device).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            said = predict_batch(model, images.to(memory_format=torch.channels_last), score_threshold=LEAST_SCORE, iou_threshold=1.0)
        for tile in said:
            rows, labels = (tile.class_scores >= LEAST_SCORE).nonzero(as_tuple=True)
            boxes, scores = tile.boxes[rows], tile.class_scores[rows, labels]
            kept = batched_nms(boxes, scores, labels, iou_threshold)[:100]
            found.append((boxes[kept].cpu(), scores[kept].cpu(), labels[kept].cpu()))
    return coco_numbers(pictures, found)


class _Part(torch.nn.Module):
    """A detector whose answer is that of one of its parts."""

    def __init__(self, model: Detector, part: str) -> None:
        super().__init__()
        self.model, self.part, self.num_classes = model, part, model.num_classes

    def forward(self, images: Tensor) -> Detections:
        found: Detections = self.model(images)
        answers = {f"layer{index}": layer for index, layer in enumerate(found.layers)}
        answers |= {f"regions{look}": layer for look, layer in enumerate(found.regions)}
        if found.proposals is not None:
            answers["proposals"] = Layer(found.proposals.logits, found.proposals.boxes)
        return found._replace(layers=[answers[self.part]])


def part_numbers(model: Detector, pictures: list[Picture], iou_threshold: float, *, bf16: bool) -> dict[str, dict[str, float]]:
    """Metrics of every part that answers, on its own."""
    config = model.config
    parts = ["proposals"] * config.two_stage + [
        f"regions{look}" for look in range(config.region_looks + config.further_looks if config.two_stage and config.region_stage else 0)
    ]
    parts += [f"layer{index}" for index in range(config.decoder_layers)]
    return {part: numbers(_Part(model, part), pictures, iou_threshold, bf16=bf16) for part in parts}  # type: ignore[arg-type]


def settings(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """``["detector.heads=4", …]`` as {"detector": {"heads": 4}, "schedule": {}}."""
    values: dict[str, dict[str, Any]] = {"detector": {}, "schedule": {}}
    for pair in pairs:
        path, _, text = pair.partition("=")
        part, _, name = path.partition(".")
        target = values[part]
        if "." in name:
            outer, _, name = name.partition(".")
            target = target.setdefault(outer, {})
        try:
            target[name] = json.loads(text)
        except ValueError:
            target[name] = text
    return values


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
    parser.add_argument("--iou", type=float, default=0.5, help="overlap above which the weaker box of a class is dropped")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="nano")
    parser.add_argument("--set", action="append", default=[], metavar="PART.NAME=VALUE", help="PART is detector or schedule")
    chosen = parser.parse_args()
    values = settings(chosen.set)
    detector = DetectorConfig.from_mapping(PRESETS[chosen.preset].model_dump() | {"image_size": chosen.size} | values["detector"])
    given = {"images_seen": chosen.images_seen, "seed": chosen.seed, "threads": chosen.threads, "precision": "auto"}
    schedule = ScheduleConfig.from_mapping(given | values["schedule"])
    pictures = load("train", chosen.size)
    labelled, judged = without_dev(pictures) if chosen.dev else (pictures, load("val", chosen.size))
    if chosen.fraction < 1:
        labelled = subset(labelled, chosen.fraction, chosen.draw)
    with seeded(chosen.seed):
        model = Detector(detector, CLASSES)
    said = [time.monotonic()]

    def report(done: int, total: int, message: str) -> None:
        if time.monotonic() - said[0] > 20 or done == total:
            said[0] = time.monotonic()
            print(f"{done}/{total}  {message}", file=sys.stderr, flush=True)

    run_folder = chosen.out.with_suffix(".run")
    checkpoints = CheckpointStore(run_folder / "checkpoints")
    run = train(DetectionTask(model), Pictures(labelled), schedule, checkpoints=checkpoints, progress=report, log=run_folder)
    measured = numbers(model, judged, chosen.iou, bf16=run.precision == "bf16")
    document = {name: value for name, value in vars(chosen).items() if name != "out"} | measured
    document |= {"model": "tilehawk", "images": len(labelled), "images_seen": run.images_seen, "seconds": round(run.seconds, 1)}
    document |= {"precision": run.precision, "detector": detector.model_dump(mode="json"), "schedule": schedule.model_dump(mode="json")}
    if chosen.dev:
        document["parts"] = part_numbers(model, judged, chosen.iou, bf16=run.precision == "bf16")
    document |= {"versions": {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "faster-coco-eval")}}
    write_json(chosen.out, document)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, chosen.out.with_suffix(".safetensors"))
    checkpoints.remove()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
