"""Export to ONNX, refused unless ONNX Runtime computes what torch computes."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engine.deploy.graph import (
    OPSET,
    SAMPLER_OF_TARGET,
    ExportableDetector,
    ExportableOneShot,
    Target,
    require_runs_on,
    write_graph,
    write_one_shot_graph,
)
from engine.deploy.half import halve
from engine.deploy.one_shot import ONE_SHOT_FILE, load_one_shot
from engine.deploy.parity import Parity, measure_parity
from engine.deploy.runtime import DESCRIPTION_FILE, MODEL_FILE, load_detector
from engine.errors import ParityError
from engine.files import atomic_directory, sha256_of, write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.sampling import use_sampler

__all__ = ["LAYERS", "TOLERANCE", "ExportOptions", "Exported", "Precision", "export_detector"]

Precision = Literal["fp32", "fp16"]
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2}
"""Largest difference to torch in float32, of a score or of a box as a share of the tile's side."""

LAYERS = "layers"
"""Below an exported folder, what was found with it: hours of search that a new export of the same name keeps."""


@dataclass(frozen=True)
class ExportOptions:
    """In which form a detector is exported."""

    target: Target = "onnxruntime"
    """Where it will run: deformable attention becomes GridSample, or gathers for TensorRT."""
    precision: Precision = "fp32"
    """Of convolutions and matrix products; inputs, outputs and coordinates are float32."""
    one_shot_patch: int | None = None
    """Side in pixels of the patches of a second graph that looks for a patch; none for no such graph."""


@dataclass(frozen=True)
class Exported:
    """How near the graphs are to the original."""

    detector: Parity
    one_shot: Parity | None


def export_detector(
    detector: Detector,
    label_set: LabelSet,
    images: Tensor,
    directory: Path,
    *,
    model: str,
    threads: int,
    options: ExportOptions = ExportOptions(),
    finder: Detector | None = None,
) -> Exported:
    """Write the exported folder as a whole, or nothing; the layers of one that is there already stay in it.

    Args:
        detector: fine-tuned, on the CPU.
        label_set: its classes.
        images: (B, 3, S, S) uint8, real tiles on which both runtimes are compared, one by one and as a batch.
        directory: the folder to make.
        model: the model's name, for the description.
        threads: of ONNX Runtime.
        options: target, precision, and whether there is a second graph.
        finder: the detector of the second graph, of the same input size; None for the slots of ``detector``.

    Raises:
        ParityError: the two differ in a score or in a box by more than the precision's tolerance.
        UsageError: the target does not compute an operator of this architecture.
    """
    detector, finder = (each.eval().to(memory_format=torch.contiguous_format) for each in (detector, finder or detector))
    assert finder.config.image_size == detector.config.image_size
    patch = None if options.one_shot_patch is None else _patch(images, options.one_shot_patch)
    ours = _answers(ExportableDetector(detector), images)
    for each in (detector, finder):
        use_sampler(each, SAMPLER_OF_TARGET[options.target])
    try:
        with atomic_directory(directory) as folder:
            write_graph(detector, folder / MODEL_FILE)
            _finish(folder / MODEL_FILE, options)
            description = {
                "model": model,
                "tile": detector.config.image_size,
                "classes": list(label_set.names),
                "fingerprint": label_set.fingerprint,
                "sha256": sha256_of(folder / MODEL_FILE),
                "opset": OPSET,
                "target": options.target,
                "precision": options.precision,
            }
            write_json(folder / DESCRIPTION_FILE, description)
            whole_batches = replace(load_detector(folder, threads=threads, device="cpu"), at_once=None)
            theirs = whole_batches.run(_pictures(images))
            parity = _proved(ours, theirs, detector, options, MODEL_FILE)
            description["parity"] = vars(parity)
            one_shot = None
            if patch is not None:
                one_shot = _add_one_shot(finder, images, patch, folder, description, threads, options)
            write_json(folder / DESCRIPTION_FILE, description)
            if (directory / LAYERS).is_dir():
                shutil.copytree(directory / LAYERS, folder / LAYERS, copy_function=_link)
    finally:
        for each in (detector, finder):
            use_sampler(each, "auto")
    return Exported(parity, one_shot)


def _link(source: str, target: str) -> None:
    """The same file under another name, or a copy of it where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _add_one_shot(
    detector: Detector, images: Tensor, patch: Tensor, folder: Path, description: dict[str, Any], threads: int, options: ExportOptions
) -> Parity:
    """Write the second graph and what ``description`` says of it, and compare it too."""
    path, side = folder / ONE_SHOT_FILE, patch.shape[-1]
    ours = _answers(ExportableOneShot(detector), images, patch[None].float() / 255)
    write_one_shot_graph(detector, side, path)
    _finish(path, options)
    description["one_shot"] = {"patch": side, "sha256": sha256_of(path)}
    write_json(folder / DESCRIPTION_FILE, description)
    boxes, scores = load_one_shot(folder, threads=threads, device="cpu").run(_pictures(images), _pictures(patch[None])[0])
    parity = _proved(ours, (boxes, scores[..., None]), detector, options, ONE_SHOT_FILE)
    description["one_shot"]["parity"] = vars(parity)
    return parity


def _finish(path: Path, options: ExportOptions) -> None:
    if options.precision == "fp16":
        halve(path)
    require_runs_on(options.target, path)


def _patch(images: Tensor, side: int) -> Tensor:
    """The middle quarter of the first image, (3, side, side): something that can be looked for."""
    quarter = images.shape[-1] // 4
    middle = images[:1, :, quarter : 3 * quarter, quarter : 3 * quarter].float()
    return functional.interpolate(middle, (side, side), mode="bilinear", align_corners=False)[0].round().to(torch.uint8)


def _pictures(images: Tensor) -> NDArray[np.uint8]:
    """(B, 3, S, S) → (B, S, S, 3)."""
    pictures: NDArray[np.uint8] = images.permute(0, 2, 3, 1).contiguous().numpy()
    return pictures


@torch.inference_mode()
def _answers(module: ExportableDetector | ExportableOneShot, images: Tensor, *others: Tensor) -> tuple[NDArray[np.float32], ...]:
    """What torch says to every image by itself: boxes and scores."""
    parts = [module(image[None].float() / 255, *others) for image in images]
    return tuple(torch.cat(each).numpy() for each in zip(*parts, strict=True))


def _proved(
    ours: tuple[NDArray[np.float32], ...],
    theirs: tuple[NDArray[np.float32], ...],
    detector: Detector,
    options: ExportOptions,
    graph: str,
) -> Parity:
    parity = measure_parity((ours[0], ours[1]), (theirs[0], theirs[1]), detector.config.image_size)
    tolerance = TOLERANCE[options.precision]
    if not parity.worst <= tolerance:
        raise ParityError(
            f"{graph}: ONNX Runtime differs from torch by {max(parity.score, parity.box):.2g} over {parity.detections} detections, "
            f"{parity.unmatched} unmatched",
            expected=f"at most {tolerance:g} with {options.precision}",
            remedy="Nothing was exported; report this with the model's config.json and the versions in its manifest",
        )
    return parity
