"""How much quicker an exported detector answers in ONNX Runtime than in torch, on this machine's CPU.

    python tests/bench/export_speed.py OUT.json [--preset nano] [--rounds 15] [--threads 1 2] [--batches 1 8]

Weights are random, which changes no time. All forms take turns in every round, so that a busy machine slows all alike; medians are
reported, and the ratio to torch (channels last, the quicker of its layouts) round by round.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from engine.deploy.export import ExportOptions, export_detector
from engine.deploy.graph import ExportableDetector, Target
from engine.deploy.runtime import load_detector, unit_planes
from engine.files import write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.presets import PRESETS

CLASSES = LabelSet.of([f"class {number}" for number in range(10)])
TARGETS: tuple[Target, ...] = ("onnxruntime", "tensorrt")


def exported(model: Detector, folder: Path) -> dict[Target, Path]:
    """The model in both forms, each proved equal on a picture of noise."""
    side = model.config.image_size
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for target in TARGETS:
        export_detector(model, CLASSES, images, folder / target, model=target, threads=1, options=ExportOptions(target))
    return {target: folder / target for target in TARGETS}


def in_turns(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every form in every round, after one that does not count."""
    for run in forms.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, run in forms.items():
            began = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - began))
    return taken


def measure(model: Detector, folders: dict[Target, Path], *, batch: int, threads: int, rounds: int) -> dict[str, object]:
    """Medians of one batch size and number of threads."""
    torch.set_num_threads(threads)
    side = model.config.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    module = ExportableDetector(model)

    @torch.inference_mode()
    def eager() -> object:
        return module(torch.from_numpy(unit_planes(pictures)).contiguous(memory_format=torch.channels_last))

    forms: dict[str, Callable[[], object]] = {"torch": eager}
    for target, folder in folders.items():
        session = load_detector(folder, threads=threads, device="cpu")
        forms[f"onnx for {target}"] = lambda session=session: session.run(pictures)  # type: ignore[misc]
    taken = in_turns(forms, rounds)
    ratios = {name: [ours / theirs for ours, theirs in zip(taken["torch"], times, strict=True)] for name, times in taken.items()}
    return {
        "batch": batch,
        "threads": threads,
        "median_milliseconds": {name: round(statistics.median(times), 2) for name, times in taken.items()},
        "median_times_as_fast_as_torch": {name: round(statistics.median(each), 3) for name, each in ratios.items()},
        "milliseconds": {name: [round(value, 2) for value in times] for name, times in taken.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="nano")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    chosen = parser.parse_args()
    torch.manual_seed(0)
    config = PRESETS[chosen.preset].model_copy(update={"backbone_weights": "none"})
    model = Detector(config, len(CLASSES)).eval()
    with tempfile.TemporaryDirectory() as folder:
        folders = exported(model, Path(folder))
        model = model.to(memory_format=torch.channels_last)
        results = [
            measure(model, folders, batch=batch, threads=threads, rounds=chosen.rounds)
            for threads in chosen.threads
            for batch in chosen.batches
        ]
    document = {
        "preset": chosen.preset,
        "image_size": config.image_size,
        "rounds": chosen.rounds,
        "results": results,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_at_the_end": os.getloadavg(),
    }
    write_json(chosen.out, document)


if __name__ == "__main__":
    main()
