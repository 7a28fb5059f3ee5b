"""Fixtures for all tests: generated pictures, real data where it is there, no network and no display."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ["MPLBACKEND"] = "Agg"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    """Write a small RGB picture with blobs on ground; the same seed gives the same pixels."""
    from PIL import Image

    def write(path: Path, *, width: int = 64, height: int = 48, seed: int = 0) -> Path:
        generator = np.random.default_rng(seed)
        pixels = generator.integers(60, 120, size=(height, width, 3), dtype=np.uint8)
        for _ in range(3):
            x, y = generator.integers(0, width - 8), generator.integers(0, height - 8)
            pixels[y : y + 8, x : x + 8] = generator.integers(150, 255, size=3)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def real_data() -> Path:
    """The folder of real data that ``TILEHAWK_DATA`` names; the test is skipped where it is not set."""
    folder = os.environ.get("TILEHAWK_DATA")
    if not folder:
        pytest.skip("TILEHAWK_DATA names no folder of real data")
    return Path(folder)
