"""Fixtures for all tests: generated pictures, real data where it is there, no network and no display."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

os.environ["MPLBACKEND"] = "Agg"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="session")
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


HOSTILE_NAME = '"><img src=x onerror="document.title=1">.png'


@pytest.fixture(scope="session")
def filled_workspace(tmp_path_factory: pytest.TempPathFactory, write_picture: Callable[..., Path]) -> Iterator[Workspace]:
    """A small workspace, to read from only.

    Three scenes in tiles of 32, one of them with a hostile name; labels withheld on train ground; a file set aside; two rounds, and
    the evaluated model that the first one bought.
    """
    from engine.boxes import Boxes
    from engine.catalog.models import add_model
    from engine.catalog.rounds import ChosenTile, add_round
    from engine.catalog.tiles import tiles
    from engine.catalog.workspace import Workspace
    from engine.label_set import LabelSet
    from engine.records import ImageLabels, LabelFile
    from engine.stages.ingest import IngestConfig, ingest
    from engine.stages.labels import LabelConfig, import_labels

    folder = tmp_path_factory.mktemp("imagery")
    names = ["a.png", "b.png", HOSTILE_NAME]
    for seed, name in enumerate(names):
        write_picture(folder / name, width=160, height=160, seed=seed)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    boxes = Boxes(np.array([[2, 2, 20, 20], [40, 44, 60, 60], [100, 100, 120, 120], [130, 8, 150, 30]]), np.array([0, 1, 0, 1]))
    labels = LabelFile(LabelSet.of(["car", "<b>ship</b>"]), tuple(ImageLabels(name, 160, 160, boxes) for name in names))
    with Workspace.create(tmp_path_factory.mktemp("filled") / "workspace") as workspace:
        ingest(workspace, folder, IngestConfig(tile=32, overlap=0))
        import_labels(workspace, labels, LabelConfig(withhold=True))
        with workspace.session() as session:
            chosen = [ChosenTile(tile.id, 1.0, 30.0, {}) for tile in tiles(session, split="train")]
            first = add_round(session, budget_seconds=60.0, strategy="random", seed=0, chosen=chosen[:2])
            first.measured_seconds = 55.0
            add_model(session, name="first", stage="finetune", config={}, data_hash="0" * 64, metrics={"test": {"ap": 0.1, "ap50": 0.25}})
            add_round(session, budget_seconds=60.0, strategy="balanced", seed=0, chosen=chosen[2:4])
        yield workspace


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
