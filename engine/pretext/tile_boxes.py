"""Boxes that were made for tiles, not drawn: regions, or what a model believes; kept in one file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from engine.files import write_bytes
from engine.models.weight_files import read_metadata, read_tensors, serialized
from engine.training.data import Relabelled, TileSource

__all__ = ["TileBoxes"]


class TileBoxes(NamedTuple):
    """Boxes of tiles, in the order of their indices."""

    boxes: list[Tensor]
    """(n, 4) float32 as (x1, y1, x2, y2) in pixels."""
    labels: list[Tensor]
    """(n,) int64."""

    def on(self, source: TileSource, *, absence: float = 1.0) -> Relabelled:
        """The tiles with these boxes in place of labels; ``absence``: how much it counts that nothing is anywhere else."""
        return Relabelled(source, self.boxes, self.labels, absence=absence)

    def save(self, path: Path, fingerprint: str) -> None:
        """Write them to one safetensors file, whole or not at all; ``fingerprint`` says what they were made from."""
        counts = torch.tensor([len(each) for each in self.boxes], dtype=torch.int64)
        tensors = {"counts": counts, "boxes": torch.cat(self.boxes), "labels": torch.cat(self.labels)}
        write_bytes(path, serialized(tensors, {"fingerprint": fingerprint}))

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> TileBoxes | None:
        """What :meth:`save` wrote, or None where it was made from something else, or is not there."""
        if not path.is_file() or read_metadata(path).get("fingerprint") != fingerprint:
            return None
        held = read_tensors(path)
        counts = held["counts"].tolist()
        return cls(list(torch.split(held["boxes"], counts)), list(torch.split(held["labels"], counts)))
