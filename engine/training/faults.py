"""When a step goes wrong: numbers that are none stop the run with all that explains them, memory that runs out does not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from engine.errors import BadInput
from engine.files import atomic_directory, write_bytes, write_json
from engine.training.batches import Batch

__all__ = ["BUNDLE_BYTES", "NotFinite", "is_out_of_memory", "refuse_not_finite", "write_bundle"]

BUNDLE_BYTES = 45 * 2**20
"""The pixels in a bundle take at most this much, so that all of it stays below 50 MB."""


class NotFinite(Exception):
    """A loss or gradient norm that is not finite, before any weight was changed."""

    def __init__(self, what: str, value: float, parts: Mapping[str, float]) -> None:
        super().__init__(what)
        self.what, self.value = what, value
        self.broken = [name for name, part in parts.items() if not math.isfinite(part)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def refuse_not_finite(fault: NotFinite, batch: Batch, names: list[str], bundle: Path | None) -> BadInput:
    """The error that names the step, the parts and the tiles."""
    said = f" (parts {fault.broken})" if fault.broken else ""
    kept = f"; the batch is in {bundle}" if bundle else ""
    return BadInput(
        f"the {fault.what} is {fault.value} at step {batch.step}{said}, on the tiles {', '.join(names)}",
        expected="a finite number",
        remedy=f"Look at these tiles, or lower the learning rate; weights and last checkpoint are untouched{kept}",
    )


def write_bundle(folder: Path, batch: Batch, facts: Mapping[str, Any]) -> Path:
    """Write what is needed to compute the step again: ``batch.safetensors`` and ``bundle.json``, in a folder of the step's own.

    Args:
        folder: where the step's folder goes.
        batch: its images are left out from the first that would make the bundle larger than :data:`BUNDLE_BYTES`.
        facts: JSON-ready: tiles, seed, rates.
    """
    tensors: dict[str, Tensor] = {"random_state": batch.random_state}
    taken = 0
    for number, sample in enumerate(batch.samples):
        taken += sample.image.nbytes
        if taken <= BUNDLE_BYTES:
            tensors[f"image.{number}"] = sample.image.contiguous().clone()
        tensors |= {f"boxes.{number}": sample.boxes.clone(), f"labels.{number}": sample.labels.clone()}
    images = sum(name.startswith("image.") for name in tensors)
    target = folder / f"not-finite-step-{batch.step:08d}"
    with atomic_directory(target) as temporary:
        write_bytes(temporary / "batch.safetensors", save(tensors))
        document = {"step": batch.step, "tiles": batch.tiles, "images": len(batch.samples), "images_kept": images, **facts}
        write_json(temporary / "bundle.json", json.loads(json.dumps(document)))
    return target
