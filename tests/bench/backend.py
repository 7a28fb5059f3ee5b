"""How quickly an annotator gets look-alikes: on the tile in view, through the machine learning backend, and from an archive.

    python tests/bench/backend.py docs/benchmarks/annotators/backend.json --threads 2 [--tiles 10000] [--calls 30] [--work FOLDER]

Run it on a quiet machine; it makes a workspace of generated landscapes (2 GB for 10,000 tiles of 256 px) in FOLDER, or in a temporary
one. The models have the packaged backbone and are otherwise untrained: how long an answer takes does not depend on what they learned.
Every call is one request as Label Studio sends it, for another tile and box, from the route on; the first, which loads the model, stands
apart. For the archive, a second process would change nothing: the time until hits are in the catalog is read from the catalog itself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.routes import ml_backend
from app.settings import Settings
from app.suggester import suggester_of
from engine.catalog import remote
from engine.catalog.annotations import set_label_set
from engine.catalog.models import add_model, model_directory
from engine.catalog.searches import searches
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.files import write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.presets import PRESETS
from engine.models.store import save_model
from engine.progress import silent
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.search import SearchConfig, search
from engine.training.loop import seeded

TILE, SCENE = 256, 2560
OBJECT = 40
SECRET = "s3cret"
SECONDS_BETWEEN_LOOKS = 0.05


def landscapes() -> Any:
    path = Path(__file__).parents[1] / "fakes" / "landscape.py"
    spec = importlib.util.spec_from_file_location("landscape", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["landscape"] = module
    spec.loader.exec_module(module)
    return module


def fill(folder: Path, count: int) -> Workspace:
    """A workspace of at least ``count`` tiles, all of them training ground, with a pre-trained model."""
    scenes, imagery = -(-count // (SCENE // TILE) ** 2), folder / "imagery"
    imagery.mkdir(parents=True)
    layout = {"driver": "GTiff", "width": SCENE, "height": SCENE, "count": 3, "dtype": "uint8", "tiled": True, "compress": "deflate"}
    for seed in range(scenes):
        pixels = landscapes().landscape(seed, side=SCENE).pixels
        with rasterio.open(imagery / f"{seed:04d}.tif", "w", **layout) as raster:
            raster.write(np.moveaxis(pixels, -1, 0))
    workspace = Workspace.create(folder / "workspace")
    ingest(workspace, imagery, IngestConfig.from_mapping({"tile": TILE, "overlap": 0, "ground": "train"}))
    with workspace.session() as session:
        set_label_set(session, ["house", "car"])
        remote.workspace_key(session)
    add(workspace, "pretrained", "pretrain")
    return workspace


def add(workspace: Workspace, name: str, stage: str, **changes: Any) -> None:
    labels = LabelSet.of(["look-alike"] if stage == "one-shot" else [])
    with seeded(0):
        model = Detector(PRESETS["nano"].model_copy(update={"image_size": TILE, **changes}), len(labels))
    save_model(model_directory(workspace, name), model, stage=stage, label_set=labels, metrics={}, provenance={})
    with workspace.session() as session:
        add_model(session, name=name, stage=stage, config={}, data_hash="0")


def asked(workspace: Workspace, calls: int, threads: int) -> dict[str, Any]:
    """Seconds of requests for the look-alikes of a box on its tile."""
    torch.set_num_threads(threads)
    with workspace.session() as session:
        key, known = remote.workspace_key(session), tiles(session, split="train")
    app = FastAPI()
    app.include_router(ml_backend.router(workspace, None, suggester_of(workspace, Settings(look_alike_score=0.0)), SECRET))  # type: ignore[arg-type]
    client, chance, seconds, found = TestClient(app), np.random.default_rng(0), [], []
    computing = []
    client.auth = ("tilehawk", SECRET)
    for _ in range(calls + 1):
        tile = known[int(chance.integers(len(known)))]
        body = {"tasks": [{"data": {"tilehawk": remote.task_key(key, tile.id)}}], "params": {"context": {"result": [drawn(chance)]}}}
        began, computed = time.perf_counter(), time.process_time()
        answer = client.post("/label-studio/predict", json=body)
        seconds.append(time.perf_counter() - began)
        computing.append(time.process_time() - computed)
        answer.raise_for_status()
        found.append(len(answer.json()["results"][0]["result"]) - 1)
    first, *warm = seconds
    return {"first_seconds": first, **spread(warm), "median_processor_seconds": statistics.median(computing[1:]), "look_alikes": found}


def drawn(chance: np.random.Generator) -> dict[str, Any]:
    x, y = (float(corner) for corner in chance.uniform(0, 100 - 100 * OBJECT / TILE, 2))
    side = 100 * OBJECT / TILE
    value = {"x": x, "y": y, "width": side, "height": side, "rotation": 0, "rectanglelabels": ["car"]}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "image_rotation": 0}
    return {**region, "original_width": TILE, "original_height": TILE, "value": value}


def searched(workspace: Workspace, tile: TileRecord, threads: int) -> dict[str, Any]:
    """Seconds until the first hits of a search are in the catalog, and until all are."""
    config = SearchConfig(tile=tile.id, box=(60.0, 60.0, 60.0 + OBJECT, 60.0 + OBJECT), threads=threads)
    with workspace.session(write=False) as session:
        before = len(searches(session))
    began = time.perf_counter()
    with watched(workspace, before, began) as noted:
        report = search(workspace, config, progress=silent)
    described = {"tiles": report.tiles, "described": report.described, "hits": report.hits}
    return {**described, "first_hits_seconds": noted.get("first"), "seconds": report.seconds}


@contextlib.contextmanager
def watched(workspace: Workspace, before: int, began: float) -> Iterator[dict[str, float]]:
    """Look into the catalog until the block ends; notes when the search after ``before`` others first had hits."""
    noted: dict[str, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS) and not noted:
            with workspace.session(write=False) as session:
                known = searches(session)
            if len(known) > before and known[-1].hits:
                noted["first"] = time.perf_counter() - began

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield noted
    finally:
        over.set()
        watcher.join()


def spread(seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    return {
        "median_seconds": statistics.median(ordered),
        "slowest_seconds": ordered[-1],
        "all_seconds": [round(each, 4) for each in seconds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--work", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder, fill(Path(folder), arguments.tiles) as workspace:
        with workspace.session(write=False) as session:
            known = tiles(session, split="train")
        measured: dict[str, Any] = {"load_before": os.getloadavg()}
        measured["tile_by_frozen_features"] = asked(workspace, arguments.calls, arguments.threads)
        measured["archive_new"] = searched(workspace, known[0], arguments.threads)
        measured["archive_known"] = [searched(workspace, tile, arguments.threads) for tile in known[1:4]]
        add(workspace, "asked", "one-shot", one_shot=True)
        measured["tile_by_one_shot_model"] = asked(workspace, arguments.calls, arguments.threads)
    about = {
        "options": {name: getattr(arguments, name) for name in ("threads", "tiles", "calls")},
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "fastapi", "rasterio")},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_after": os.getloadavg(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, {**about, **measured})


if __name__ == "__main__":
    main()
