"""Budgets replayed on windows of NWPU VHR-10: what each strategy makes of an annotator's seconds.

    python tests/bench/budget.py OUT run [STRATEGY…] [--seeds 0 1 2] [--dev] [--rare | --few CLASS…] [--start WEIGHTS] [--lane 0/2]
    python tests/bench/budget.py OUT all [--seeds 0] [--dev] [--rare | --few CLASS…] [--start WEIGHTS]
    python tests/bench/budget.py OUT summary [--dev] [--rare | --few CLASS…]

Needs TILEHAWK_DATA. Windows of 320 px are cut from the images of train.json at their full resolution, grouped by image, most of them
empty; the network sees them at --size px. With --dev a fifth of the images is what models are measured on, else the windows of val.json.
With --rare the classes of RARE are in eight images of the pool each, no more; with --few the boxes of all other classes are left out. The
first budget, --start-seconds, is spent at random and is the same for all strategies of a seed; every round fine-tunes anew from WEIGHTS (or
from ImageNet's backbone), with first weights of the rest and an order of training that go by the seed too, and charges by the oracle, who
sees the true boxes; a ranking sees predictions only. "all" learns from the whole pool. One result file a strategy and seed; a run that was
interrupted goes on where it was. What was made with other settings is neither gone on with nor mixed with new results: that needs another
OUT. Another seed may start from other WEIGHTS, as where pre-training was done anew; all strategies of a seed start from the same. "summary"
also holds the rare classes against random, seed by seed, and draws curves.png and seeds.png.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors.torch import load_file
from scipy import stats

from engine.boxes import Boxes, visible_share
from engine.files import write_json
from engine.label_set import LabelSet
from engine.models.detector import Detector, DetectorConfig
from engine.models.presets import PRESETS
from engine.selection.config import SelectionConfig
from engine.selection.cost import Prices
from engine.selection.strategies import STRATEGIES
from engine.simulation.comparison import read_comparison
from engine.simulation.curves import Curve, read_curves
from engine.simulation.learner import DetectorLearner
from engine.simulation.picture import draw_comparison, draw_seeds
from engine.simulation.pool import LabelledPool
from engine.simulation.replay import CHARGING, ReplayConfig, replay, replay_all_labels
from engine.training.data import TileSamples
from engine.training.loop import ScheduleConfig, seeded

WINDOW = 320
LEAST_VISIBLE = 0.4
DEV_SHARE, DEV_SEED = 0.2, 77
RARE, RARE_IMAGES = (2, 5, 8), 8
CONFIDENCE = 0.95
SETTINGS = "settings.json"
START = "start"
"""Key of the hash of the weights that the rounds of a seed start from, and of the file that says it."""
CHOSEN_BY = "chosen_by"
"""Key of a result: its strategy, where "strategy" is what the result is called."""
OF_ONE_RUN, OF_FIRST_ROUND = "config.selection.", ("prices", "cost", "overlap_share")
"""How tiles are chosen may differ from run to run, but for what the first round goes by, which all share."""


class Windows(NamedTuple):
    """Windows of some images: pixels as the network sees them, boxes in those pixels, the object of each, the image and place of each."""

    pixels: list[np.ndarray]
    boxes: list[Boxes]
    objects: list[np.ndarray]
    images: np.ndarray
    places: np.ndarray


def starts(length: int) -> list[int]:
    """Where windows begin along a side: as few as cover it, evenly spread."""
    count = max(1, -(-length // WINDOW))
    return [round(start) for start in np.linspace(0, max(length - WINDOW, 0), count)]


def cut(folder: Path, document: dict[str, Any], images: list[dict[str, Any]], size: int) -> Windows:
    """Every window of the images."""
    label_of = {category["id"]: label for label, category in enumerate(document["categories"])}
    known: dict[int, list[dict[str, Any]]] = {}
    for annotation in document["annotations"]:
        known.setdefault(annotation["image_id"], []).append(annotation)
    found = Windows([], [], [], np.zeros(0), np.zeros(0))
    owners, places, scale, objects = [], [], size / WINDOW, 0
    for entry in images:
        corners = np.asarray([each["bbox"] for each in known.get(entry["id"], [])], dtype=np.float64).reshape(-1, 4)
        labels = np.asarray([label_of[each["category_id"]] for each in known.get(entry["id"], [])], dtype=np.int64)
        whole = Boxes(np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:]]), labels)
        with Image.open(folder / "images" / entry["file_name"]) as source:
            picture = source.convert("RGB")
        for top in starts(picture.height):
            for left in starts(picture.width):
                window = (left, top, min(left + WINDOW, picture.width), min(top + WINDOW, picture.height))
                sides = (round((window[2] - left) * scale), round((window[3] - top) * scale))
                found.pixels.append(np.array(picture.crop(window).resize(sides, Image.Resampling.BILINEAR)))
                seen = tuple(map(float, window))
                shown = whole.visible_in(seen, LEAST_VISIBLE).shifted(-left, -top)
                found.boxes.append(Boxes(shown.xyxy * scale, shown.labels))
                found.objects.append(objects + np.flatnonzero(visible_share(whole.xyxy, seen) >= LEAST_VISIBLE))
                owners.append(entry["id"])
                places.append(window)
        objects += len(whole)
    return Windows(found.pixels, found.boxes, found.objects, np.asarray(owners), np.asarray(places, dtype=np.float64))


def thinned(images: list[dict[str, Any]], document: dict[str, Any]) -> list[dict[str, Any]]:
    """The images without those that show a rare class once eight show it."""
    label_of = {category["id"]: label for label, category in enumerate(document["categories"])}
    shows: dict[int, set[int]] = {}
    for annotation in document["annotations"]:
        shows.setdefault(annotation["image_id"], set()).add(label_of[annotation["category_id"]])
    kept, number = [], dict.fromkeys(RARE, 0)
    for entry in images:
        rare = shows.get(entry["id"], set()) & set(RARE)
        if all(number[label] < RARE_IMAGES for label in rare):
            kept.append(entry)
            for label in rare:
                number[label] += 1
    return kept


def only(names: list[str], document: dict[str, Any]) -> dict[str, Any]:
    """The document with the classes ``names`` alone, in its own order.

    Raises:
        SystemExit: a name that is none of its classes.
    """
    kept = [category for category in document["categories"] if category["name"] in names]
    if len(kept) < len(set(names)):
        known = ", ".join(category["name"] for category in document["categories"])
        raise SystemExit(f"--few {' '.join(names)}: the classes are {known}")
    numbers = {category["id"] for category in kept}
    annotations = [each for each in document["annotations"] if each["category_id"] in numbers]
    return document | {"categories": kept, "annotations": annotations}


def folder_of(chosen: argparse.Namespace) -> Path:
    """Where the results of such a pool lie."""
    pool = "rare" if chosen.rare else "few" if chosen.few else "whole"
    return Path(chosen.out) / ("dev" if chosen.dev else "test") / pool


class Bench:
    """The replays of one folder."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder = folder_of(chosen)
        data = Path(os.environ["TILEHAWK_DATA"]) / "nwpu_vhr10"
        train, val = (json.loads((data / f"{split}.json").read_text()) for split in ("train", "val"))
        if chosen.few:
            train, val = only(chosen.few, train), only(chosen.few, val)
        order = np.random.default_rng(DEV_SEED).permutation(len(train["images"]))
        dev = set(order[: round(DEV_SHARE * len(order))].tolist())
        ground = [entry for index, entry in enumerate(train["images"]) if index not in dev]
        if chosen.rare:
            ground = thinned(ground, train)
        judged = [entry for index, entry in enumerate(train["images"]) if index in dev] if chosen.dev else val["images"]
        self.labels = LabelSet(tuple(category["name"] for category in train["categories"]))
        windows = cut(data, train, ground[: chosen.images], chosen.size)
        test = cut(data, train if chosen.dev else val, judged[: chosen.images], chosen.size)
        ids = np.arange(len(windows.boxes))
        self.pool = LabelledPool(ids, windows.images, windows.places, windows.boxes, self.labels, windows.objects)
        changes = {"image_size": chosen.size} | json.loads(chosen.detector)
        self.detector = DetectorConfig.from_mapping(PRESETS["nano"].model_dump() | changes)
        self.schedule = ScheduleConfig(images_seen=chosen.images_seen, passes=chosen.passes, seed=0, threads=chosen.threads)
        self.samples, self.test = (TileSamples(part.pixels, part.boxes, chosen.size) for part in (windows, test))
        self.test_boxes = test.boxes
        self.extents, self.test_extents = ([each.shape[1::-1] for each in part.pixels] for part in (windows, test))
        empty = sum(not len(known) for known in windows.boxes)
        print(f"{len(self.pool)} windows, {empty} empty, {self.pool.boxes} boxes; measured on {len(test.boxes)}", flush=True)

    def build(self, seed: int) -> Detector:
        with seeded(seed):
            model = Detector(self.detector, len(self.labels))
        if self.chosen.start:
            own, held = model.state_dict(), load_file(self.chosen.start)
            model.load_state_dict({name: held[name] for name in own if name in held and held[name].shape == own[name].shape}, strict=False)
        return model

    def learner(self, schedule: ScheduleConfig) -> DetectorLearner:
        return DetectorLearner(
            partial(self.build, schedule.seed),
            self.samples,
            self.pool.tile_ids,
            self.test,
            self.test_boxes,
            self.labels,
            schedule=schedule,
            folder=self.folder / "models",
            extents=self.extents,
            test_extents=self.test_extents,
        )

    def config(self) -> ReplayConfig:
        changes = json.loads(self.chosen.selection)
        budgets, selection = tuple(self.chosen.budgets), SelectionConfig.from_mapping(changes)
        return ReplayConfig(start=self.chosen.start_seconds, budgets=budgets, selection=selection)

    def settings(self) -> dict[str, Any]:
        """What every result of the folder is made with."""
        start = hashlib.sha256(self.chosen.start.read_bytes()).hexdigest() if self.chosen.start else None
        made: dict[str, Any] = {"detector": self.detector.model_dump(mode="json"), "schedule": self.schedule.model_dump(mode="json")}
        pool = {"few": sorted(self.chosen.few), "images": self.chosen.images}
        return made | {START: start, "charging": CHARGING, "pool": pool, "config": self.config().model_dump(mode="json")}

    def require_same(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Nothing in the folder was made with other settings than these; ``wanted`` is what will be gone on with.

        Raises:
            SystemExit: something was; it says what differs.
        """
        present, wanted = self.settings(), list(wanted)
        own = {f"{self.chosen.name or strategy}-{seed}.json": strategy for strategy, seed in wanted}
        shared = {name: made for name, made in present.items() if name != START}
        kept, starts = self.folder / SETTINGS, {seed: self.folder / f"{START}-{seed}.json" for _, seed in wanted}
        for path in sorted(self.folder.glob("*.json")):
            stored = json.loads(path.read_text())
            if path == kept or path in starts.values() or "measured" in stored or stored.get("rounds"):
                of_seed = path != kept and stored.get("seed") in starts
                differ = differences(stored, present if of_seed else shared, whole=path.name in own)
                chose = stored.get(CHOSEN_BY, stored.get("strategy"))
                if path.name in own and chose != own[path.name]:
                    differ.append(f"the strategy was {chose!r} and is {own[path.name]!r}")
                if differ:
                    raise SystemExit(f"{path} was made with other settings: {'; '.join(differ)}. Name another OUT, or another --name")
        if not kept.exists():
            write_json(kept, shared)
        for seed, file in starts.items():
            write_json(file, {"seed": seed, START: present[START], "charging": CHARGING})

    def run(self, strategy: str, seed: int) -> None:
        name = f"{self.chosen.name or strategy}-{seed}"
        began = time.monotonic()
        schedule = self.schedule.model_copy(update={"seed": self.schedule.seed + seed})
        learner = _Named(self.learner(schedule), strategy, self.chosen.name)
        file = self.folder / f"{name}.json"
        rounds = replay(self.pool, learner, self.config(), strategy, seed, file, progress=report(name))  # type: ignore[arg-type]
        document = json.loads(file.read_text()) | {
            "strategy": self.chosen.name or strategy,
            CHOSEN_BY: strategy,
            "versions": versions(),
            "command": [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]],
        }
        write_json(file, document | {name: made for name, made in self.settings().items() if name != "config"})
        print(
            json.dumps({"name": name, "ap50": [round(each.measured.ap50, 4) for each in rounds], "tiles": [each.tiles for each in rounds]})
        )
        print(json.dumps({"boxes": [each.boxes for each in rounds], "minutes": round((time.monotonic() - began) / 60, 1)}), flush=True)

    def all(self, seed: int) -> None:
        schedule = self.schedule.model_copy(update={"images_seen": 2 * self.chosen.images_seen, "seed": self.schedule.seed + seed})
        file = self.folder / f"all-{seed}.json"
        print(replay_all_labels(self.pool, self.learner(schedule), seed, file, prices=Prices(), progress=report(f"all {seed}")))


def differences(stored: dict[str, Any], present: dict[str, Any], *, whole: bool) -> list[str]:
    """What a file was made with, as far as it says so, and how it is now; what may differ from run to run counts where ``whole``."""

    def flat(made: Any, name: str = "") -> dict[str, Any]:
        if not isinstance(made, dict):
            return {name: made}
        return {key: value for part in made for key, value in flat(made[part], f"{name}.{part}" if name else part).items()}

    said = {name: stored.get(name) for name in present if name in stored or name == "charging"}
    before, now = flat(said), flat({name: present[name] for name in said})
    named = sorted(key for key in {*before, *now} if before.get(key) != now.get(key) and key != "schedule.threads")
    shared = tuple(OF_ONE_RUN + name for name in OF_FIRST_ROUND)
    counted = [key for key in named if whole or not key.startswith(OF_ONE_RUN) or key.startswith(shared)]
    return [f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in counted]


class _Named:
    """A learner whose models are named by the run and not by the strategy, so that settings of a strategy can be held side by side."""

    def __init__(self, learner: DetectorLearner, strategy: str, name: str | None) -> None:
        self._learner, self._strategy, self._name = learner, strategy, name

    def _called(self, name: str) -> str:
        return name.replace(self._strategy, self._name, 1) if self._name and not name.startswith("start-") else name

    def learn(self, name: str, *arguments: Any) -> Any:
        return self._learner.learn(self._called(name), *arguments)

    def predict(self, name: str, *arguments: Any) -> Any:
        return self._learner.predict(self._called(name), *arguments)

    def measure(self, name: str, *arguments: Any) -> Any:
        return self._learner.measure(self._called(name), *arguments)


def report(name: str) -> Any:
    said = [time.monotonic()]

    def tell(done: int, total: int, message: str) -> None:
        if time.monotonic() - said[0] > 20:
            said[0] = time.monotonic()
            print(f"{name}: {done}/{total}  {message}", file=sys.stderr, flush=True)

    return tell


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy", "faster-coco-eval")}


def summary(folder: Path) -> dict[str, Any]:
    """What the results in ``folder`` say together; the curves over seconds, boxes and tiles stand in its file alone."""
    curves = read_curves(folder)
    full = [json.loads(path.read_text()) for path in sorted(folder.glob("all-*.json"))]
    found = read_comparison(folder)
    draw_comparison(found, folder / "curves.png")
    draw_seeds(curves, folder / "seeds.png")
    said: dict[str, Any] = {"seeds": sorted({curve.seed for curve in curves}), "all seconds": full[0]["seconds"] if full else None}
    axes = {unit: replace(axis, grid=(), mean={}, interval={}) for unit, axis in found.axes.items()}
    said |= {"comparison": asdict(replace(found, axes=axes)), "best": found.best}
    said |= {"shares left out": found.shares_left_out}
    said["rare"] = rare_classes(folder, curves) if folder.name != "few" else None
    write_json(folder / "summary.json", said | {"comparison": asdict(found)})
    return said


def rare_classes(folder: Path, curves: Sequence[Curve]) -> dict[str, Any]:
    """Mean AP50 of the rare classes after the last round: of each strategy by seed, and its difference to random's, seed by seed.

    Classes that the test windows do not show are left out.
    """
    found: dict[str, dict[int, float]] = {}
    for curve in curves:
        document = json.loads((folder / f"{curve.strategy}-{curve.seed}.json").read_text())
        by_class = list(document["rounds"][-1]["measured"]["ap50_per_class"].values())
        shown = [by_class[label] for label in RARE if by_class[label] is not None]
        found.setdefault(curve.strategy, {})[curve.seed] = float(np.mean(shown)) if shown else 0.0
    control = found.get("random", {})
    paired = {
        name: [ap50 - control[seed] for seed, ap50 in of.items() if seed in control] for name, of in found.items() if name != "random"
    }
    return {"ap50": found, "minus random": {name: paired_difference(values) for name, values in paired.items() if values}}


def paired_difference(values: Sequence[float]) -> dict[str, Any]:
    """The mean of differences of single seeds with its 95 % interval (Student's t); none of one seed."""
    mean, interval = float(np.mean(values)), None
    if len(values) > 1:
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
        interval = [mean - reach, mean + reach]
    return {"seeds": len(values), "mean": mean, "interval": interval}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=["run", "all", "summary"])
    parser.add_argument("strategies", nargs="*", metavar="STRATEGY", help=f"of {', '.join(STRATEGIES)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dev", action="store_true")
    pool = parser.add_mutually_exclusive_group()
    pool.add_argument("--rare", action="store_true")
    pool.add_argument("--few", nargs="+", default=[], metavar="CLASS", help="the only classes that have boxes")
    parser.add_argument("--images", type=int, help="so many images of the pool and to be measured on at most, to try things")
    parser.add_argument("--start-seconds", type=float, default=1500.0, help="budget of the first round")
    parser.add_argument(
        "--budgets", type=float, nargs="+", default=[1500.0, 3000.0, 6000.0, 8000.0], help="of the rounds after it, in seconds"
    )
    parser.add_argument("--start", type=Path)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--images-seen", type=int, default=2400)
    parser.add_argument("--passes", type=float, default=4, help="each labelled window is seen so often at least")
    parser.add_argument("--detector", default="{}", help="changes of DetectorConfig, as JSON; to be given an OUT of its own")
    parser.add_argument("--selection", default="{}", help="changes of SelectionConfig, as JSON")
    parser.add_argument("--name", help="what the results are called, where a strategy runs with other settings")
    parser.add_argument("--lane", default="0/1")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what == "summary":
        print(json.dumps(summary(folder_of(chosen)), indent=1))
        return
    bench = Bench(chosen)
    cells = [(strategy, seed) for strategy in chosen.strategies or STRATEGIES for seed in chosen.seeds]
    bench.require_same(cells if chosen.what == "run" else [])
    if chosen.what == "all":
        for seed in chosen.seeds:
            bench.all(seed)
        return
    lane, lanes = (int(number) for number in chosen.lane.split("/"))
    for strategy, seed in cells[lane::lanes]:
        bench.run(strategy, seed)


if __name__ == "__main__":
    main()
