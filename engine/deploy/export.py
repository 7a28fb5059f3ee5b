"""Export to ONNX, refused unless ONNX Runtime computes what torch computes."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.deploy.runtime import DESCRIPTION_FILE, MODEL_FILE, load_detector
from engine.errors import ParityError
from engine.files import atomic_directory, sha256_of, write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector

__all__ = ["OPSET", "ExportableDetector", "Parity", "export_detector", "measure_parity"]

OPSET = 18
PARITY_TOLERANCE = 1e-3
MINIMUM_SCORE = 0.05
COMPARED_AT_LEAST = 10


class ExportableDetector(nn.Module):
    """The detector as a graph: images in, boxes and scores of the last layer out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S), RGB in [0, 1] → boxes (B, N, 4) as (x1, y1, x2, y2) in pixels, scores (B, N, C)."""
        last = self.detector(image).layers[-1]
        centres, sizes = last.boxes[..., :2], last.boxes[..., 2:]
        corners = torch.cat([centres - sizes / 2, centres + sizes / 2], -1)
        return corners * self.detector.config.image_size, last.logits.sigmoid()


@dataclass(frozen=True)
class Parity:
    """Largest differences between torch and ONNX Runtime over matched detections."""

    detections: int
    """compared, counted from either side"""
    unmatched: int
    """without a counterpart of the same class"""
    score: float
    box: float
    """as a share of the tile's side"""
    images: int

    @property
    def worst(self) -> float:
        """The number that must stay within the tolerance; infinite when a detection has no counterpart."""
        return float("inf") if self.unmatched else max(self.score, self.box)


def measure_parity(
    ours: tuple[NDArray[np.float32], NDArray[np.float32]], theirs: tuple[NDArray[np.float32], NDArray[np.float32]], side: int
) -> Parity:
    """Compare two answers to the same images.

    Every (query, class) with a score of at least 0.05 on one side, and an image's ten best whatever their scores, is matched to the
    nearest box of the same class on the other side, whatever its place in the order; both directions are looked at.

    Args:
        ours: boxes (B, N, 4) in pixels and scores (B, N, C).
        theirs: the same from the other runtime.
        side: of the images, in pixels.
    """
    detections = unmatched = 0
    worst_score = worst_box = 0.0
    for (boxes, scores), (other_boxes, other_scores) in ((ours, theirs), (theirs, ours)):
        for image in range(len(boxes)):
            floor = min(MINIMUM_SCORE, float(np.sort(scores[image], axis=None)[-COMPARED_AT_LEAST:][0]))
            for query, label in zip(*np.nonzero(scores[image] >= floor), strict=True):
                detections += 1
                distance = np.abs(other_boxes[image] - boxes[image, query]).max(-1) / side
                gap = np.abs(other_scores[image, :, label] - scores[image, query, label])
                nearest = int(np.maximum(distance, gap).argmin())
                if max(distance[nearest], gap[nearest]) > 0.1:
                    unmatched += 1
                    continue
                worst_box = max(worst_box, float(distance[nearest]))
                worst_score = max(worst_score, float(gap[nearest]))
    return Parity(detections, unmatched, worst_score, worst_box, len(ours[0]))


def _write_graph(detector: Detector, path: Path) -> None:
    size = detector.config.image_size
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ExportableDetector(detector),
            (example,),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["boxes", "scores"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=1024)}},
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)


def export_detector(detector: Detector, label_set: LabelSet, images: Tensor, directory: Path, *, model: str, threads: int) -> Parity:
    """Write the exported folder as a whole, or nothing.

    Args:
        detector: fine-tuned, on the CPU.
        label_set: its classes.
        images: (B, 3, S, S) uint8, real tiles on which both runtimes are compared, one by one and as a batch.
        directory: the folder to make.
        model: the model's name, for the description.
        threads: of ONNX Runtime.

    Raises:
        ParityError: the two differ by more than 1e-3 in a score or in a box (as a share of the tile's side).
    """
    detector = detector.eval().to(memory_format=torch.contiguous_format)
    size = detector.config.image_size
    with torch.inference_mode():
        parts = [ExportableDetector(detector)(image[None].float() / 255) for image in images]
    ours = torch.cat([part[0] for part in parts]).numpy(), torch.cat([part[1] for part in parts]).numpy()
    with atomic_directory(directory) as folder:
        _write_graph(detector, folder / MODEL_FILE)
        description = {
            "model": model,
            "tile": size,
            "classes": list(label_set.names),
            "fingerprint": label_set.fingerprint,
            "sha256": sha256_of(folder / MODEL_FILE),
            "opset": OPSET,
        }
        write_json(folder / DESCRIPTION_FILE, description)
        theirs = load_detector(folder, threads=threads, device="cpu").run(images.permute(0, 2, 3, 1).contiguous().numpy())
        parity = measure_parity(ours, theirs, size)
        if not parity.worst <= PARITY_TOLERANCE:
            raise ParityError(
                f"ONNX Runtime differs from torch by {parity.worst:.2g} over {parity.detections} detections, {parity.unmatched} unmatched",
                expected=f"at most {PARITY_TOLERANCE:g}",
                remedy="Nothing was exported; report this with the model's config.json and the versions in its manifest",
            )
        write_json(folder / DESCRIPTION_FILE, {**description, "parity": vars(parity)})
    return parity
