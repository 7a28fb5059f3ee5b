"""Fixtures for all tests: generated pictures, real data where it is there, no network and no display."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="session")
def fake() -> Callable[[str], ModuleType]:
    """Load a module of ``tests/fakes`` by its name."""

    def load(name: str) -> ModuleType:
        known = f"fakes_{name}"
        if known not in sys.modules:
            spec = importlib.util.spec_from_file_location(known, Path(__file__).parent / "fakes" / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            sys.modules[known] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[known])
        return sys.modules[known]

    return load
