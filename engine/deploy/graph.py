"""Detectors as ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.models.detector import Detector
from engine.models.frozen_norms import folded_once
from engine.models.one_shot import describe_patches, find_patch
from engine.models.sampling import Sampler

__all__ = [
    "OPSET",
    "REFUSED_BY_TENSORRT",
    "SAMPLER_OF_TARGET",
    "ExportableDetector",
    "ExportableOneShot",
    "Target",
    "operators",
    "require_runs_on",
    "write_graph",
    "write_one_shot_graph",
]

OPSET = 18
"""Of every graph: ONNX Runtime from 1.14 and TensorRT from 8.6 read it."""
Target = Literal["onnxruntime", "tensorrt"]
SAMPLER_OF_TARGET: dict[Target, Sampler] = {"onnxruntime": "grid", "tensorrt": "gather"}
REFUSED_BY_TENSORRT = frozenset(
    {"GridSample", "If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "SequenceAt", "SplitToSequence", "Unique"}
)
"""Computed wrong by some of its versions, not at all, or of an output size that depends on the data."""


def _pixel_corners(boxes: Tensor, side: int) -> Tensor:
    """Boxes (…, 4) as (cx, cy, w, h), normalised → (x1, y1, x2, y2) in pixels."""
    centres, sizes = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centres - sizes / 2, centres + sizes / 2], -1) * side


class ExportableDetector(nn.Module):
    """The detector as a graph: images in, boxes and scores of the last layer out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S), RGB in [0, 1] → boxes (B, N, 4) as (x1, y1, x2, y2) in pixels, scores (B, N, C)."""
        last = self.detector(image).layers[-1]
        return _pixel_corners(last.boxes, self.detector.config.image_size), last.scores


class ExportableOneShot(nn.Module):
    """One-shot detection as a graph: images and one patch in, boxes and scores out, duplicates included."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
        """Look for a patch.

        Args:
            image: (B, 3, S, S), RGB in [0, 1].
            patch: (1, 3, s, s), RGB in [0, 1].

        Returns:
            Boxes (B, N, 4) as (x1, y1, x2, y2) in pixels, and scores (B, N, 1), of query slots comparable within an image only.
        """
        boxes, matched = find_patch(self.detector, image, describe_patches(self.detector, patch)[0])
        return _pixel_corners(boxes, self.detector.config.image_size), matched[..., None]


def _example(batch: int, side: int) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter prints, warns and logs of nodes that it leaves as they are."""
    log = logging.getLogger("onnxscript")
    level = log.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


def _write(module: nn.Module, examples: dict[str, Tensor], path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=1024)
    with _quietly(), folded_once(module):
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            optimize=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=["boxes", "scores"],
            dynamic_shapes={name: {0: batch} if name == "image" else None for name in examples},
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)


def write_graph(detector: Detector, path: Path) -> None:
    """Write :class:`ExportableDetector` with a free batch size; attention samples as the detector is set to."""
    _write(ExportableDetector(detector), {"image": _example(2, detector.config.image_size)}, path)


def write_one_shot_graph(detector: Detector, patch: int, path: Path) -> None:
    """Write :class:`ExportableOneShot` with a free batch size, for patches with a side of ``patch`` pixels."""
    _write(ExportableOneShot(detector), {"image": _example(2, detector.config.image_size), "patch": _example(1, patch)}, path)


def operators(path: Path) -> set[str]:
    """Types of all operators in a graph, its functions and subgraphs included."""
    model = onnx.load(path, load_external_data=False)
    return set(_operators(model.graph.node)).union(*(_operators(function.node) for function in model.functions))


def _operators(nodes: Iterable[onnx.NodeProto]) -> Iterable[str]:
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            yield from _operators(attribute.g.node)


def require_runs_on(target: Target, path: Path) -> None:
    """Refuse a graph with an operator that the target does not compute.

    Raises:
        UsageError: there is one.
    """
    refused = sorted(operators(path) & REFUSED_BY_TENSORRT) if target == "tensorrt" else []
    if refused:
        raise UsageError(f"target = 'tensorrt', and the graph holds {refused}", remedy="Export it with target = 'onnxruntime'")
