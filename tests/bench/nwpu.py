"""NWPU VHR-10 as arrays in memory, for benchmarks of detectors: train.json, the dev part cut from it, and val.json, which is the test."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["CLASSES", "Picture", "coco_numbers", "load", "subset", "without_dev"]

CLASSES = 10
DEV_SHARE = 0.2
DEV_SEED = 77


class Picture(NamedTuple):
    """One image, shrunk so that its longest side is ``size``; padded with black at the right and bottom."""

    image_id: int
    pixels: Tensor
    """(3, size, size) uint8."""
    boxes: Tensor
    """(n, 4) float32 as (x1, y1, x2, y2) in pixels of ``pixels``."""
    labels: Tensor
    """(n,) int64 in [0, 10)."""
    scale: float
    """Pixels of ``pixels`` a source pixel."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """(size, size, 3)."""
        return self.pixels.permute(1, 2, 0).numpy()


def load(split: str, size: int = 320) -> list[Picture]:
    """The pictures of "train" or "val"; boxes under a pixel are left out.

    Raises:
        SystemExit: TILEHAWK_DATA is not set.
    """
    if "TILEHAWK_DATA" not in os.environ:
        raise SystemExit("Set TILEHAWK_DATA to the folder that holds nwpu_vhr10")
    data = Path(os.environ["TILEHAWK_DATA"]) / "nwpu_vhr10"
    document = json.loads((data / f"{split}.json").read_text())
    label_of = {category["id"]: label for label, category in enumerate(document["categories"])}
    known: dict[int, list[dict[str, list[float] | int]]] = {}
    for annotation in document["annotations"]:
        known.setdefault(annotation["image_id"], []).append(annotation)
    return [_picture(data, entry, known.get(entry["id"], []), label_of, size) for entry in document["images"]]


def _picture(data: Path, entry: dict, annotations: list[dict], label_of: dict[int, int], size: int) -> Picture:  # type: ignore[type-arg]
    with Image.open(data / "images" / entry["file_name"]) as source:
        scale = size / max(source.size)
        shrunk = source.convert("RGB").resize((round(source.width * scale), round(source.height * scale)), Image.Resampling.BILINEAR)
    pixels = torch.zeros(3, size, size, dtype=torch.uint8)
    pixels[:, : shrunk.height, : shrunk.width] = torch.from_numpy(np.array(shrunk)).permute(2, 0, 1)
    corners = torch.tensor([each["bbox"] for each in annotations], dtype=torch.float32).reshape(-1, 4)
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1) * scale
    labels = torch.tensor([label_of[each["category_id"]] for each in annotations], dtype=torch.int64)
    keep = (boxes[:, 2:] - boxes[:, :2] > 1).all(1)
    return Picture(entry["id"], pixels, boxes[keep], labels[keep], scale)


def subset(pictures: list[Picture], fraction: float, draw: int) -> list[Picture]:
    """A random part of the pictures, the same for everybody who names the same draw."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(1000 + draw)).tolist()
    return [pictures[index] for index in sorted(order[: round(fraction * len(pictures))])]


def without_dev(pictures: list[Picture]) -> tuple[list[Picture], list[Picture]]:
    """(the rest, the dev part): a fixed fifth, on which settings are chosen."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(DEV_SEED)).tolist()
    count = round(DEV_SHARE * len(pictures))
    return [pictures[index] for index in order[count:]], [pictures[index] for index in order[:count]]


def coco_numbers(pictures: list[Picture], found: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """AP, AP50, AP75, AP_S, AP_M, AP_L in percent, with boxes in the source's pixels, as COCO's area ranges mean them.

    Args:
        pictures: what was looked at.
        found: (boxes (k, 4) in shrunk pixels, scores (k,), labels (k,)) of each.
    """
    truth: list[dict[str, object]] = []
    detections: list[dict[str, object]] = []
    for picture, (boxes, scores, labels) in zip(pictures, found, strict=True):
        for rows, target, marks in ((picture.boxes, truth, None), (boxes, detections, scores)):
            sides = torch.cat([rows[:, :2], rows[:, 2:] - rows[:, :2]], 1) / picture.scale
            classes = picture.labels if marks is None else labels
            for index, (box, label) in enumerate(zip(sides.tolist(), classes.tolist(), strict=True)):
                entry = {"id": len(target) + 1, "image_id": picture.image_id, "category_id": label + 1, "bbox": box, "iscrowd": 0}
                target.append(entry | {"area": box[2] * box[3], "score": 1.0 if marks is None else float(marks[index])})
    if not detections:
        return dict.fromkeys(("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"), 0.0)
    categories = [{"id": label + 1, "name": str(label)} for label in range(CLASSES)]
    images = [{"id": picture.image_id} for picture in pictures]
    known, seen = (COCO({"images": images, "annotations": rows, "categories": categories}) for rows in (truth, detections))
    run = COCOeval_faster(known, seen, "bbox", print_function=lambda *_, **__: None)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return {
        name: round(float(value) * 100, 2) for name, value in zip(("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"), run.stats, strict=False)
    }
