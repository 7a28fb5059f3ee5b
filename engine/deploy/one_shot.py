"""An exported one-shot graph in ONNX Runtime: a picture of an object and tiles in, boxes out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.deploy.runtime import DESCRIPTION_FILE, REMEDY, Device, ExportDescription, open_session, unit_planes
from engine.errors import CheckpointRefused
from engine.files import sha256_of

__all__ = ["ONE_SHOT_FILE", "OnnxOneShot", "load_one_shot"]

ONE_SHOT_FILE = "one_shot.onnx"


@dataclass(frozen=True, eq=False)
class OnnxOneShot:
    """Looks for what a patch shows; ``tile`` and ``patch`` are the sides of its square inputs in pixels."""

    path: Path
    tile: int
    patch: int
    session: Any

    def run(self, images: NDArray[np.uint8], patch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look for one patch.

        Args:
            images: RGB (B, tile, tile, 3).
            patch: RGB (patch, patch, 3).

        Returns:
            Boxes (B, N, 4) as (x1, y1, x2, y2) in tile pixels, duplicates included, and scores (B, N) in [0, 1], of query slots comparable
            within an image only.

        Raises:
            CheckpointRefused: the graph fails, or its answer is not finite.
        """
        try:
            boxes, scores = self.session.run(["boxes", "scores"], {"image": unit_planes(images), "patch": unit_planes(patch[None])})
        except Exception as failed:
            raise CheckpointRefused(f"{self.path} fails in ONNX Runtime: {failed}", remedy=REMEDY) from failed
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise CheckpointRefused(f"{self.path} answered with numbers that are not finite", remedy=REMEDY)
        return boxes, scores[..., 0]


def load_one_shot(directory: Path, *, threads: int, device: Device = "auto") -> OnnxOneShot:
    """Open the one-shot graph of an exported folder.

    Args:
        directory: holds ``one_shot.onnx`` beside the detector.
        threads: CPU threads of the session.
        device: as for the detector.

    Raises:
        CheckpointRefused: there is none, or it is damaged.
    """
    directory = Path(directory)
    description, path = ExportDescription.read(directory), directory / ONE_SHOT_FILE
    said = json.loads((directory / DESCRIPTION_FILE).read_bytes()).get("one_shot")
    if not isinstance(said, dict) or not path.is_file():
        raise CheckpointRefused(f"{directory} holds no one-shot graph", expected=f"{ONE_SHOT_FILE}, described", remedy=REMEDY)
    if said.get("sha256") != sha256_of(path):
        raise CheckpointRefused(f"{path} is not the file that was exported: its SHA-256 differs", remedy=REMEDY)
    session = open_session(path, threads, device)
    shapes = {each.name: list(each.shape)[-1] for each in session.get_inputs()}
    if shapes != {"image": description.tile, "patch": said.get("patch")}:
        raise CheckpointRefused(f"{path} takes {shapes}", expected=f"image and patch as in {DESCRIPTION_FILE}", remedy=REMEDY)
    return OnnxOneShot(path, description.tile, int(said["patch"]), session)
