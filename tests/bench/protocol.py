"""The whole comparison on NWPU VHR-10 as one list of runs, each with its own file; what is there is not run again.

    python tests/bench/protocol.py OUT run [--part full tenth ablation] [--lane 0/2] [--threads 1]
    python tests/bench/protocol.py OUT summary
    python tests/bench/protocol.py OUT list

full: all of train.json, 10,400 images seen, three seeds, our detector and Faster R-CNN. tenth: 52 labelled images, draws 0 to 4, the same.
ablation: our detector with one lever changed, judged on dev at 5,200 images seen. gpu: the preset base at 512 px and longer schedules.

Needs TILEHAWK_DATA. Lanes share the list out: 0/2 takes every other run from the first on. A run that was interrupted goes on from its last
checkpoint when the same command is typed again. The summary has means, deviations, and for the draws the paired differences with their
95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from engine.files import write_json

HERE = Path(__file__).parent
SEEDS, DRAWS = range(3), range(5)
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "seconds")
LEVERS: dict[str, list[str]] = {
    "default": [],
    "no zoom": ["schedule.augment.scale=[1,1]"],
    "mosaic": ["schedule.augment.mosaic=0.5"],
    "one look": ["detector.region_looks=1"],
    "no further look": ["detector.further_looks=0"],
    "region stage at a quarter of the weight": ["detector.region_weight=0.25"],
    "no known boxes": ["detector.region_truth=0"],
    "all channels of memory": ["detector.region_channels=0"],
    "no region stage": ["detector.region_stage=0", "detector.region_layers=1"],
    "no fine level": ["detector.region_fine=false"],
    "decoder alone answers": ["detector.decoder_share=1"],
    "norms in the pyramid": ["detector.pyramid_norms=true"],
    "no pyramid": ["detector.pyramid=false"],
    "an encoder layer": ["detector.encoder_layers=1"],
    "two decoder layers": ["detector.decoder_layers=2"],
    "two decoder layers, no refinement": ["detector.decoder_layers=2", "detector.refinement=false"],
    "two decoder layers, look forward twice": ["detector.decoder_layers=2", "detector.look_forward_twice=true"],
    "decoder not residual": ["detector.residual_classes=false"],
    "decoder at full weight": ["detector.decoder_weight=1"],
    "one stage": [
        "detector.queries=learned",
        "detector.box_moves=logit",
        "detector.region_stage=0",
        "detector.region_features=0",
        "detector.residual_classes=false",
        "detector.supervision=one-to-one",
    ],
    "denoising": ["detector.denoising_groups=2"],
    "decoder one-to-one": ["detector.supervision=one-to-one"],
    "proposals by what they answer": ["detector.proposal_loss=dense"],
    "presence": ["detector.class_loss=presence"],
    "varifocal": ["detector.class_loss=varifocal"],
    "focal": ["detector.class_loss=focal"],
    "100 queries": ["detector.num_queries=100"],
    "eight images a step": ["schedule.batch_size=8"],
    "no average": ["schedule.ema_decay=0"],
    "fp32": ["schedule.precision=fp32"],
}


class Run(NamedTuple):
    """One file to be made."""

    part: str
    name: str
    script: str
    arguments: list[str]

    def file(self, folder: Path) -> Path:
        return folder / self.part / f"{self.name.replace(' ', '-')}.json"


def runs(parts: list[str]) -> list[Run]:
    """Every run of the parts, our detector and the baseline in turns."""
    found: list[Run] = []
    if "full" in parts:
        for seed in SEEDS:
            arguments = ["--images-seen", "10400", "--seed", str(seed)]
            found += [Run("full", f"tilehawk-{seed}", "detectors.py", arguments), Run("full", f"faster-rcnn-{seed}", *baseline(arguments))]
    if "tenth" in parts:
        for draw in DRAWS:
            arguments = ["--images-seen", "10400", "--fraction", "0.1", "--draw", str(draw)]
            found += [
                Run("tenth", f"tilehawk-{draw}", "detectors.py", arguments),
                Run("tenth", f"faster-rcnn-{draw}", *baseline(arguments)),
            ]
    if "ablation" in parts:
        for name, changes in LEVERS.items():
            settings = [word for change in changes for word in ("--set", change)]
            found.append(Run("ablation", name, "detectors.py", ["--images-seen", "5200", "--dev", *settings]))
    if "gpu" in parts:
        for seen in ("10400", "31200"):
            for seed in SEEDS:
                arguments = ["--images-seen", seen, "--seed", str(seed), "--size", "512"]
                large = ["--preset", "base"]
                found += [
                    Run("gpu", f"tilehawk-base-512-{seen}-{seed}", "detectors.py", [*arguments, *large]),
                    Run("gpu", f"tilehawk-512-{seen}-{seed}", "detectors.py", arguments),
                    Run("gpu", f"faster-rcnn-512-{seen}-{seed}", *baseline(arguments)),
                ]
    return found


def baseline(arguments: list[str]) -> tuple[str, list[str]]:
    return "faster_rcnn.py", [*arguments, "--quick"]


def make(run: Run, folder: Path, threads: int) -> None:
    """Run one, its output beside its file."""
    target = run.file(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / run.script), str(target), *run.arguments, "--threads", str(threads)]
    print("+", *command[1:], flush=True)
    with target.with_suffix(".log").open("a") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)


def table(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, object]]:
    """Mean and standard deviation of each metric of each model."""
    return {
        model: {"runs": len(documents)}
        | {
            metric: {
                "mean": round(statistics.mean(values), 2),
                "deviation": round(statistics.stdev(values), 2) if len(values) > 1 else None,
                "values": values,
            }
            for metric in METRICS
            for values in [[document[metric] for document in documents]]
        }
        for model, documents in found.items()
        if documents
    }


def paired(ours: list[float], theirs: list[float]) -> dict[str, object]:
    """Differences of draws, their mean and its 95 % interval."""
    differences = [round(mine - other, 2) for mine, other in zip(ours, theirs, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return {"differences": differences, "mean": mean}
    reach = float(stats.t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return {"differences": differences, "mean": round(mean, 2), "interval": [round(mean - reach, 2), round(mean + reach, 2)]}


def summary(folder: Path) -> dict[str, object]:
    """What the files in ``folder`` say, as far as they are there."""
    said: dict[str, object] = {}
    held = {(run.part, run.name): run.file(folder) for run in runs(["full", "tenth", "ablation", "gpu"])}
    documents = {key: json.loads(path.read_text()) for key, path in held.items() if path.exists()}
    for part, numbers in (("full", SEEDS), ("tenth", DRAWS)):
        found = {
            model: {number: documents[part, f"{model}-{number}"] for number in numbers if (part, f"{model}-{number}") in documents}
            for model in ("tilehawk", "faster-rcnn")
        }
        both = sorted(found["tilehawk"].keys() & found["faster-rcnn"].keys())
        said[part] = table({model: list(each.values()) for model, each in found.items()})
        if both:
            said[f"{part}, paired"] = {
                metric: paired(*([found[model][number][metric] for number in both] for model in ("tilehawk", "faster-rcnn")))
                for metric in ("AP", "AP50", "AP75")
            }
    for part in ("ablation", "gpu"):
        said[part] = {
            name: {metric: document[metric] for metric in METRICS} for (its_part, name), document in documents.items() if its_part == part
        }
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("action", choices=("run", "summary", "list"))
    parser.add_argument("--part", nargs="+", choices=("full", "tenth", "ablation", "gpu"), default=["full", "tenth", "ablation"])
    parser.add_argument("--lane", default="0/1")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    lane, lanes = (int(number) for number in chosen.lane.split("/"))
    if chosen.action == "summary":
        said = summary(chosen.out)
        write_json(chosen.out / "summary.json", said)
        print(json.dumps(said, indent=1))
        return
    for run in runs(chosen.part)[lane::lanes]:
        there = run.file(chosen.out).exists()
        if chosen.action == "list":
            print("done " if there else "     ", run.file(chosen.out), run.script, *run.arguments)
        elif not there:
            make(run, chosen.out, chosen.threads)


if __name__ == "__main__":
    main()
