"""An exported model in ONNX Runtime."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import BadInput, CheckpointRefused, UsageError
from engine.files import sha256_of
from engine.label_set import LabelSet

__all__ = [
    "DESCRIPTION_FILE",
    "MODEL_FILE",
    "Device",
    "ExportDescription",
    "OnnxDetector",
    "available_threads",
    "load_detector",
    "open_session",
    "unit_planes",
]

MODEL_FILE, DESCRIPTION_FILE = "model.onnx", "export.json"
REMEDY = "Make it anew with `tilehawk export`"
SMALLEST_TILE, LARGEST_TILE = 16, 8192

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}


@dataclass(frozen=True)
class ExportDescription:
    """What ``export.json`` says: the model's name, the side of its square input in pixels, and its classes."""

    model: str
    tile: int
    label_set: LabelSet

    @classmethod
    def read(cls, directory: Path) -> ExportDescription:
        """Read and check the description in an exported folder.

        ``sha256`` in it, where given, must be that of the model file.

        Raises:
            CheckpointRefused: the folder or one of its files is missing, or they contradict themselves or each other.
        """
        for path in (directory, directory / DESCRIPTION_FILE, directory / MODEL_FILE):
            if not path.exists():
                expected = f"a folder with {MODEL_FILE} and {DESCRIPTION_FILE}"
                raise CheckpointRefused(f"no exported model: {path} is not there", expected=expected, remedy=REMEDY)
        path = directory / DESCRIPTION_FILE
        try:
            document = json.loads(path.read_bytes())
            description = cls(str(document["model"]), int(document["tile"]), LabelSet.of(document["classes"]))
            fingerprint, checksum = document["fingerprint"], document.get("sha256")
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as damaged:
            raise CheckpointRefused(f"{path} is damaged: {damaged!r}", expected="what the export wrote", remedy=REMEDY) from damaged
        if not SMALLEST_TILE <= description.tile <= LARGEST_TILE:
            raise CheckpointRefused(f"{path}: tile = {description.tile}", expected="the side of the model's input in pixels", remedy=REMEDY)
        if fingerprint != description.label_set.fingerprint:
            raise CheckpointRefused(
                f"{path}: the fingerprint {fingerprint!r} is not that of its classes {list(description.label_set.names)}",
                expected=description.label_set.fingerprint,
                remedy=REMEDY,
            )
        if checksum is not None and checksum != sha256_of(directory / MODEL_FILE):
            raise CheckpointRefused(f"{directory / MODEL_FILE} is not the file that was exported: its SHA-256 differs", remedy=REMEDY)
        return description


def available_threads() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class OnnxDetector:
    """A :class:`engine.inference.detect.TileDetector` that runs an exported graph.

    ``providers`` are those that the session really uses, the first one first.
    """

    path: Path
    tile: int
    label_set: LabelSet
    providers: tuple[str, ...]
    session: Any
    at_once: int | None = None
    """Pictures in a pass of the graph; None for all that are given. On a CPU one a thread is quickest: a matrix product on the rows of many
    pictures no longer fits into the cache."""

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Detect on RGB images (B, tile, tile, 3): boxes (B, Q, 4) in tile pixels and scores (B, Q, C) in [0, 1].

        Raises:
            CheckpointRefused: the graph fails, or its answer has another shape, is not finite, or holds scores outside [0, 1].
        """
        if self.at_once is None or len(images) <= self.at_once:
            return self._pass(images)
        passes = [self._pass(images[first : first + self.at_once]) for first in range(0, len(images), self.at_once)]
        boxes, scores = zip(*passes, strict=True)
        return np.concatenate(boxes), np.concatenate(scores)

    def _pass(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            boxes, scores = self.session.run(["boxes", "scores"], {"image": unit_planes(images)})
        except Exception as failed:
            raise CheckpointRefused(f"{self.path} fails in ONNX Runtime: {failed}", remedy=REMEDY) from failed
        batch, classes = len(images), len(self.label_set)
        if not (boxes.ndim == scores.ndim == 3 and boxes.shape == (batch, scores.shape[1], 4) and scores.shape[::2] == (batch, classes)):
            raise CheckpointRefused(
                f"{self.path} answered with boxes {boxes.shape} and scores {scores.shape}",
                expected=f"({batch}, queries, 4) and ({batch}, queries, {classes})",
                remedy=REMEDY,
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and ((scores >= 0) & (scores <= 1)).all()):
            raise CheckpointRefused(
                f"{self.path} answered with numbers that are not finite, or scores outside [0, 1]",
                expected="finite boxes and probabilities",
                remedy=REMEDY,
            )
        return boxes, scores


def load_detector(directory: Path, *, threads: int, device: Device = "auto") -> OnnxDetector:
    """Open an exported folder.

    Args:
        directory: holds ``model.onnx`` and ``export.json``.
        threads: CPU threads of the session, at least 1.
        device: ``auto`` takes CUDA where a GPU and its libraries work, else the CPU; any other choice must work.

    Raises:
        CheckpointRefused: the folder is missing, damaged, or not an export of this contract.
        UsageError: ``threads`` below 1, or the device asked for does not work here.
    """
    if threads < 1:
        raise UsageError(f"threads = {threads}", expected="at least 1")
    directory = Path(directory)
    description = ExportDescription.read(directory)
    path = directory / MODEL_FILE
    session = open_session(path, threads, device)
    providers = tuple(session.get_providers())
    if device != "auto" and providers[0] != PROVIDERS[device][0]:
        raise UsageError(
            f"device = {device!r} does not work on this machine: ONNX Runtime fell back to {providers[0]}",
            expected=PROVIDERS[device][0],
            remedy="Install its driver and libraries, or take device = 'auto' or 'cpu'",
        )
    _require_contract(path, session, description)
    at_once = threads if providers[0] == "CPUExecutionProvider" else None
    return OnnxDetector(path, description.tile, description.label_set, providers, session, at_once)


def unit_planes(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (B, H, W, 3) → (B, 3, H, W) in [0, 1], as the graphs take them."""
    planes: NDArray[np.float32] = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
    return planes


def open_session(path: Path, threads: int, device: Device) -> Any:
    """Open a graph in ONNX Runtime.

    Raises:
        CheckpointRefused: it cannot be opened.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    wanted = PROVIDERS[("cuda" if _has_gpu() else "cpu") if device == "auto" else device]
    if len(wanted) > 1 and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    compiled_in = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(path, options, providers=[name for name in wanted if name in compiled_in])
    except Exception as damaged:
        raise CheckpointRefused(f"{path} cannot be opened: {damaged}", expected="the exported ONNX graph", remedy=REMEDY) from damaged


def _has_gpu() -> bool:
    """Whether a driver offers a GPU: what ONNX Runtime calls available is only what was compiled in."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _require_contract(path: Path, session: Any, description: ExportDescription) -> None:
    inputs = {each.name: (each.type, list(each.shape[1:])) for each in session.get_inputs()}
    outputs = {each.name for each in session.get_outputs()}
    expected = {"image": ("tensor(float)", [3, description.tile, description.tile])}
    if inputs != expected or not {"boxes", "scores"} <= outputs:
        raise CheckpointRefused(
            f"{path} takes {inputs} and gives {sorted(outputs)}", expected=f"{expected} and ['boxes', 'scores']", remedy=REMEDY
        )
