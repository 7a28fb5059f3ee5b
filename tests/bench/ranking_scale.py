"""How long ranking takes, and how much memory, as the archive grows: a batch of about 1,000 tiles of 10k, 100k and 1M.

    python tests/bench/ranking_scale.py OUT.json [--tiles 10000 100000 1000000] [--strategies tilehawk …] [--threads 2]

Tiles, 256 numbers and five boxes each, are drawn at random in groups, on scenes of 400 tiles; two tiles in a thousand are labelled. Each
size runs in a process of its own, which says its largest resident memory; what it takes to draw the world is not counted in the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from engine.files import write_json
from engine.selection.candidates import Candidates
from engine.selection.config import SelectionConfig
from engine.selection.detections import Detections, KnownObjects
from engine.selection.rank import rank

DIMENSION, BOXES, GROUPS, SCENE, BATCH, CLASSES = 256, 5, 200, 400, 1000, 10


def world(tiles: int) -> Candidates:
    """An archive."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(GROUPS, DIMENSION)).astype(np.float32)
    embeddings = centres[generator.integers(0, GROUPS, tiles)]
    embeddings += 0.5 * generator.standard_normal((tiles, DIMENSION), dtype=np.float32)
    number = np.arange(tiles)
    corner = np.stack([number % SCENE % 20, number % SCENE // 20], axis=1) * 288.0
    reviewed = generator.random(tiles) < 0.002
    labelled = np.flatnonzero(reviewed)
    place = generator.random((tiles * BOXES, 2)) * 280
    scores = generator.random((tiles * BOXES, CLASSES)) ** 6
    known = np.repeat(labelled, 4)
    return Candidates(
        tile_ids=number,
        scene_ids=number // SCENE,
        windows_scene=np.hstack([corner, corner + 320]),
        splits=np.full(tiles, "train"),
        reviewed=reviewed,
        embeddings=embeddings,
        detections=Detections(np.repeat(number, BOXES), np.hstack([place, place + 40]), scores),
        query_entropy=generator.random(tiles),
        known=KnownObjects(known, np.tile([0.0, 0, 30, 30], (len(known), 1)), generator.integers(0, CLASSES, len(known))),
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
    )


def measure(tiles: int, strategy: str) -> dict[str, float | int | str]:
    """Seconds and memory of one ranking."""
    candidates = world(tiles)
    drawn = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    ranking = rank(candidates, SelectionConfig.from_mapping({"strategy": strategy, "budget_seconds": BATCH * 30.0}))
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"tiles": tiles, "strategy": strategy, "seconds": round(seconds, 2), "chosen": len(ranking.tiles)}
    return found | {"peak_gb": round(peak / 2**20, 2), "world_gb": round(drawn / 2**20, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--tiles", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--strategies", nargs="+", default=["tilehawk", "random", "k-center", "typiclust", "entropy-mean", "ppal"])
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.out == "-":
        print(json.dumps(measure(chosen.tiles[0], chosen.strategies[0])))
        return
    threads = {name: str(chosen.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    lines = []
    for strategy in chosen.strategies:
        for tiles in chosen.tiles:
            command = [sys.executable, __file__, "-", "--tiles", str(tiles), "--strategies", strategy]
            said = subprocess.run(command, env=os.environ | threads, check=True, capture_output=True, text=True).stdout
            lines.append(json.loads(said))
            print(json.dumps(lines[-1]), flush=True)
    document = {"command": sys.argv, "runs": lines, "threads": chosen.threads, "processor": platform.machine(), "cores": os.cpu_count()}
    write_json(Path(chosen.out), document | {"versions": {"numpy": metadata.version("numpy")}})


if __name__ == "__main__":
    main()
