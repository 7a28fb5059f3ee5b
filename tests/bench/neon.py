"""NEON's airborne pictures of tree crowns, cut into windows: imagery that is like nothing in NWPU VHR-10, without labels."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from nwpu import Picture
from PIL import Image

from app.workflows.demo_data import demo_input

__all__ = ["load"]


def load(folder: Path, size: int) -> list[Picture]:
    """Windows of ``size`` px, edge to edge, of the demo's pictures; ``folder`` gets its archive.

    Raises:
        BadInput: the demo's data package is not installed.
    """
    found = []
    with zipfile.ZipFile(demo_input(folder).archive) as archive:
        for name in sorted(archive.namelist()):
            with archive.open(name) as file, Image.open(file) as source:
                picture = torch.from_numpy(np.array(source.convert("RGB"))).permute(2, 0, 1)
            for top in range(0, picture.shape[1] - size + 1, size):
                for left in range(0, picture.shape[2] - size + 1, size):
                    pixels = picture[:, top : top + size, left : left + size].contiguous()
                    found.append(Picture(len(found), pixels, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 1.0))
    return found
