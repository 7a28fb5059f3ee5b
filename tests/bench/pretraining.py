"""What pre-training without labels is worth with few labels, on NWPU VHR-10: one result file a run, nothing run twice.

    python tests/bench/pretraining.py OUT pretrain ARM… [--dev] [--images-seen 5200] [--threads 1]
    python tests/bench/pretraining.py OUT finetune ARM… --draws 0 1 2 [--dev] [--fraction 0.1] [--images-seen 5200] [--threads 1]
    python tests/bench/pretraining.py OUT summary [--dev] [--against none]
    python tests/bench/pretraining.py OUT losses ARM… [--dev]
    python tests/bench/pretraining.py OUT arms

Needs TILEHAWK_DATA. With --dev runs are judged on the dev part of train.json, whose images are then no part of any pool; without, on
val.json, which is the test. The pool is every other image of train.json, without its labels. An arm whose pre-training was not run is
pre-trained first; the same command goes on from the last checkpoint. The summary has each arm's mean over draws, and the mean paired
difference to another arm with its 95 % interval (Student's t). ``losses`` draws the losses of arms' pre-training over each other
(UP-DETR's Figure 6: up-detr and up-detr-no-mask) to OUT/losses.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import neon
import torch
from detectors import Pictures, numbers
from nwpu import CLASSES, Picture, load, subset, without_dev
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor

from engine.files import write_json
from engine.models.detector import Detector, DetectorConfig
from engine.models.presets import PRESETS
from engine.models.store import replaced_by_fine_tuning
from engine.pretext.encoder_tasks import EncoderTask, EncoderTaskConfig
from engine.pretext.plan import PretextConfig, plan_pretext
from engine.pretext.self_training import SelfTrainingConfig, believe, with_believed
from engine.pretext.taught_regions import RegionStore
from engine.pretext.tokenizer import TokenizerConfig, fit_tokenizer
from engine.training.checkpoint import CheckpointStore
from engine.training.data import TileSource
from engine.training.detection import DetectionTask
from engine.training.joint import JointTask, WeightConfig, Weighted
from engine.training.journal import LOG_NAME, read_log
from engine.training.loop import ScheduleConfig, seeded, train
from engine.training.pool import WithPool
from engine.training.schedule import PretrainScheduleConfig
from engine.training.task import Task

IOU = 0.5
PATCHES: dict[str, Any] = {"patches": 10}
NO_PATCHES: dict[str, Any] = {"patches": None}


class Arm(NamedTuple):
    """How a detector comes about."""

    pretext: dict[str, Any] | None = None
    """of PretextConfig; None for no pre-training"""
    encoder: dict[str, Any] | None = None
    """an encoder task beside the labels"""
    weight: dict[str, Any] | None = None
    """how much it counts"""
    teacher: str | None = None
    """the arm whose detector labels the pool"""
    detector: dict[str, Any] | None = None
    """of DetectorConfig, while it is pre-trained"""
    elsewhere: bool = False
    """pre-training looks at NEON's imagery, and at none of NWPU's"""
    instead_of: str | None = None
    """the arm whose seconds of pre-training are spent on fine-tuning for longer"""


def _encoder(task: str, **changes: Any) -> dict[str, Any]:
    return {**NO_PATCHES, "encoder": {"task": task, **changes}, "freeze_backbone": False}


def _regions(taught: str = "clusters", said: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {**NO_PATCHES, "regions": {"taught": taught, **(said or {})}, "freeze_backbone": False, **changes}


ARMS: dict[str, Arm] = {
    "none": Arm(),
    "none-longer": Arm(instead_of="regions"),
    "up-detr": Arm({"patches": PATCHES}),
    "up-detr-one-patch": Arm({"patches": {"patches": 1}}),
    "up-detr-unfrozen": Arm({"patches": PATCHES, "freeze_backbone": False}),
    "up-detr-no-mask": Arm({"patches": {**PATCHES, "mask": False}}),
    "up-detr-uniform": Arm({"patches": {**PATCHES, "crops": "uniform"}}),
    "up-detr-map": Arm({"patches": {**PATCHES, "features": "map"}}),
    "up-detr-no-reconstruction": Arm({"patches": {**PATCHES, "reconstruction_weight": 0.0}}),
    "reconstruction": Arm(_encoder("reconstruction")),
    "mim-continuous": Arm(_encoder("mim-continuous")),
    "mim-discrete": Arm(_encoder("mim-discrete")),
    "jigsaw-continuous": Arm(_encoder("jigsaw-continuous")),
    "jigsaw-discrete": Arm(_encoder("jigsaw-discrete")),
    "mim-discrete-every-level": Arm(_encoder("mim-discrete", levels="every")),
    "jigsaw-discrete-every-level": Arm(_encoder("jigsaw-discrete", levels="every")),
    "regions": Arm(_regions()),
    "regions-neon": Arm(_regions(), elsewhere=True),
    "regions-embedding": Arm(_regions("embedding")),
    "regions-boxes": Arm(_regions("boxes")),
    "regions-turned": Arm(_regions(said={"turned": True})),
    "regions-turned-quarter": Arm(_regions(said={"turned": True, "absence": 0.25})),
    "regions-quarter": Arm(_regions(said={"absence": 0.25})),
    "regions-64": Arm(_regions(said={"clusters": 64})),
    "regions-60": Arm(_regions(said={"proposals": {"boxes": 60}})),
    "regions-frozen": Arm(_regions(freeze_backbone=True)),
    "regions-denoising": Arm(_regions(), detector={"denoising_groups": 2}),
    "regions-patches": Arm(_regions(patches=PATCHES)),
    "regions-mim": Arm(_regions(encoder={"task": "mim-discrete"})),
    "none-self-training": Arm(teacher="none"),
    "regions-self-training": Arm(_regions(), teacher="regions"),
    "beside-mim-discrete": Arm(encoder={"task": "mim-discrete"}, weight={"start": 0.3}),
    "beside-mim-discrete-falling": Arm(encoder={"task": "mim-discrete"}, weight={"start": 0.6, "curve": "cosine"}),
    "beside-mim-discrete-falling-ratio": Arm(encoder={"task": "mim-discrete", "ratio_curve": "cosine"}, weight={"start": 0.3}),
    "beside-jigsaw-discrete": Arm(encoder={"task": "jigsaw-discrete"}, weight={"start": 0.3}),
    "beside-jigsaw-discrete-falling": Arm(encoder={"task": "jigsaw-discrete"}, weight={"start": 0.6, "curve": "cosine"}),
    "beside-jigsaw-discrete-falling-ratio": Arm(encoder={"task": "jigsaw-discrete", "ratio_curve": "cosine"}, weight={"start": 0.3}),
}


class Bench:
    """The runs of one folder."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / ("dev" if chosen.dev else "test")
        nano = PRESETS["nano"].model_dump(exclude_defaults=True)
        self.detector = DetectorConfig.from_mapping(nano | {"image_size": chosen.size} | _settings(chosen.detector))
        torch.set_num_threads(chosen.threads)
        pictures = load("train", chosen.size)
        self.train, self.judged = without_dev(pictures) if chosen.dev else (pictures, load("val", chosen.size))

    def schedule(self, images_seen: int, seed: int) -> ScheduleConfig:
        given = {"images_seen": images_seen, "seed": seed, "threads": self.chosen.threads}
        return ScheduleConfig.from_mapping(given | _settings(self.chosen.schedule))

    def pretrain_schedule(self) -> ScheduleConfig:
        return PretrainScheduleConfig(images_seen=self.chosen.pretrain_images, threads=self.chosen.threads)

    def pretrained(self, name: str) -> Path | None:
        """The weights of an arm's pre-training, made where they are not there."""
        pretext = ARMS[name].pretext
        if pretext is None:
            return None
        said = PretextConfig.from_mapping(pretext)
        path = self.folder / "pretrain" / f"{_same(name)}-{self.chosen.pretrain_images}.safetensors"
        if path.exists():
            wanted = {"size": self.chosen.size, "pretext": said.model_dump(mode="json"), "detector": self.detector.model_dump(mode="json")}
            require_same(path.with_suffix(".json"), self.pretrain_schedule(), wanted)
            return path
        run_folder = path.with_suffix(".run")
        pictures = neon.load(self.chosen.out / "neon", self.chosen.size) if ARMS[name].elsewhere else self.train
        began, worked = time.monotonic(), time.process_time()
        with seeded(0):
            model = Detector(DetectorConfig.from_mapping(self.detector.model_dump() | (ARMS[name].detector or {})), said.classes)
            plan = plan_pretext(
                model,
                said,
                Pictures(pictures),
                seed=0,
                keep=run_folder,
                regions=RegionStore(run_folder / "regions", ""),
                progress=report(name),
            )
        prepared = time.monotonic() - began
        checkpoints = CheckpointStore(run_folder / "checkpoints")
        schedule = self.pretrain_schedule()
        run = train(plan.task, plan.source, schedule, checkpoints=checkpoints, progress=report(name), log=run_folder)
        document = {
            "arm": name,
            "size": self.chosen.size,
            "images_seen": run.images_seen,
            "seconds": run.seconds,
            "seconds_to_prepare": prepared,
        }
        document |= {"processor_seconds": time.process_time() - worked, "resumed_at": run.resumed_at}
        document |= {"pretext": said.model_dump(mode="json"), "schedule": schedule.model_dump(mode="json"), "images": len(pictures)}
        document |= {"detector": self.detector.model_dump(mode="json")}
        document |= {"first_loss": statistics.mean(run.losses[:20]), "last_loss": statistics.mean(run.losses[-20:]), "parts": run.parts}
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
        write_json(path.with_suffix(".json"), document | {"versions": versions()})
        checkpoints.remove()
        return path

    def _require_same(self, path: Path, name: str, draw: int) -> None:
        """Refuse to go on beside results of other settings, which would then stand in one table."""
        schedule = self.schedule(json.loads(path.read_text())["schedule"]["images_seen"], draw)
        wanted = {"size": self.chosen.size, "pretrain_images": self.chosen.pretrain_images if ARMS[name].pretext else 0}
        wanted |= {"detector": self.detector.model_dump(mode="json")}
        require_same(path, schedule, wanted)

    def file(self, name: str, draw: int) -> Path:
        chosen = self.chosen
        return self.folder / "finetune" / f"{name}-{chosen.fraction:g}-{chosen.images_seen}-{draw}.json"

    def finetuned(self, name: str, draw: int) -> Path:
        """The result of an arm and a draw, made where it is not there."""
        path = self.file(name, draw)
        if path.exists():
            self._require_same(path, name, draw)
            return path
        arm = ARMS[name]
        labelled = subset(self.train, self.chosen.fraction, draw) if self.chosen.fraction < 1 else self.train
        drawn = {picture.image_id for picture in labelled}
        pool = [picture for picture in self.train if picture.image_id not in drawn]
        start = self.pretrained(name)
        source: TileSource = Pictures(labelled)
        document: dict[str, Any] = {"arm": name, "draw": draw, "fraction": self.chosen.fraction, "images": len(labelled)}
        document |= {"size": self.chosen.size, "pretrain_images": self.chosen.pretrain_images if arm.pretext else 0}
        with seeded(draw):
            model = Detector(self.detector, CLASSES)
        if start is not None:
            _start(model, load_file(start))
        if arm.teacher is not None:
            source, believed = self._believed(arm.teacher, model, draw, source, pool)
            document["believed"] = believed
        with seeded(draw):
            task = self._task(model, arm, source, pool)
        schedule = self.schedule(self.chosen.images_seen + self._longer(arm, draw), draw)
        checkpoints = CheckpointStore(path.with_suffix(".run") / "checkpoints")
        worked = time.process_time()
        run = train(task, source, schedule, checkpoints=checkpoints, progress=report(f"{name} {draw}"))
        document |= {"processor_seconds": time.process_time() - worked, "resumed_at": run.resumed_at}
        document |= numbers(model, self.judged, IOU, bf16=run.precision == "bf16")
        document |= {"images_seen": run.images_seen, "seconds": run.seconds, "precision": run.precision, "versions": versions()}
        document |= {"schedule": schedule.model_dump(mode="json"), "detector": self.detector.model_dump(mode="json")}
        if any(each.teacher == name for each in ARMS.values()):
            save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path.with_suffix(".safetensors"))
        write_json(path, document)
        checkpoints.remove()
        print(json.dumps({key: document[key] for key in ("arm", "draw", "AP", "AP50", "AP75", "seconds")}), flush=True)
        return path

    def _longer(self, arm: Arm, draw: int) -> int:
        """Images that fine-tuning alone would have seen in the processor seconds of the pre-training that it goes without."""
        if arm.instead_of is None:
            return 0
        weights = self.pretrained(arm.instead_of)
        assert weights
        spent = json.loads(weights.with_suffix(".json").read_text())
        plain = json.loads(self.finetuned("none", draw).read_text())
        if spent.get("resumed_at", 1) or plain.get("resumed_at", 1):
            raise SystemExit(f"{arm.instead_of} or none was interrupted, so that its processor seconds are not known; run it again without")
        return round(spent["processor_seconds"] * plain["images_seen"] / plain["processor_seconds"])

    def _believed(
        self, teacher: str, student: Detector, draw: int, labelled: TileSource, pool: list[Picture]
    ) -> tuple[TileSource, dict[str, float]]:
        """Labels by the teacher, of whose weights the student starts, as ``finetune --from TEACHER`` has it."""
        held = load_file(self.finetuned(teacher, draw).with_suffix(".safetensors"))
        model = Detector(self.detector, CLASSES)
        model.load_state_dict(held)
        student.load_state_dict(held)
        config = SelfTrainingConfig()
        found = believe(model.eval().to(memory_format=torch.channels_last), Pictures(pool), config, bf16=True)
        boxes = float(sum(len(each) for each in found.boxes))
        return with_believed(labelled, Pictures(pool), found, config), {"boxes": boxes, "tiles": float(len(pool))}

    def _task(self, model: Detector, arm: Arm, labelled: TileSource, pool: list[Picture]) -> Task:
        supervised = DetectionTask(model)
        if arm.encoder is None:
            return supervised
        config = EncoderTaskConfig.from_mapping(arm.encoder)
        tokenizer = None
        if config.task == "mim-discrete":
            every = Pictures(self.train)
            tokenizer = fit_tokenizer(every, TokenizerConfig(), patch=config.patch, words=config.vocabulary, network=model, seed=0)
        encoder = WithPool(EncoderTask(model, config, tokenizer=tokenizer), Pictures(pool), ScheduleConfig().augment)
        weight = WeightConfig.from_mapping(arm.weight or {})
        return JointTask({"labels": Weighted(supervised, WeightConfig()), "encoder": Weighted(encoder, weight)})


def require_same(path: Path, schedule: ScheduleConfig, wanted: dict[str, Any]) -> None:
    """Refuse a result that was made by another schedule, or with other settings where it states them."""
    found = json.loads(path.read_text())
    differing = [key for key, value in schedule.model_dump(mode="json").items() if found["schedule"].get(key, value) != value]
    differing += [key for key, value in wanted.items() if found.get(key, value) != value]
    if differing:
        raise SystemExit(f"{path} was made with another {', '.join(differing)}; name another OUT")


def _same(name: str) -> str:
    """The first arm with the same pre-training."""
    same = (ARMS[name].pretext, ARMS[name].detector, ARMS[name].elsewhere)
    return next(other for other, arm in ARMS.items() if (arm.pretext, arm.detector, arm.elsewhere) == same)


def _settings(given: list[str]) -> dict[str, Any]:
    """Of KEY=VALUE, where a value is JSON or a word."""
    said = {}
    for key, _, value in (each.partition("=") for each in given):
        try:
            said[key] = json.loads(value)
        except json.JSONDecodeError:
            said[key] = value
    return said


def _start(model: Detector, held: dict[str, Tensor]) -> None:
    """Weights of pre-training in all parts that it taught and that know no classes, as ``finetune`` takes them."""
    left = replaced_by_fine_tuning(int(any(name.startswith("region_stage.") for name in held)))
    weights = {name: tensor for name, tensor in held.items() if not name.startswith(left)}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith(left) for name in missing), missing


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "scikit-learn", "faster-coco-eval")}


def report(name: str) -> Any:
    said = [time.monotonic()]

    def report(done: int, total: int, message: str) -> None:
        if time.monotonic() - said[0] > 20 or done == total:
            said[0] = time.monotonic()
            print(f"{name}: {done}/{total}  {message}", file=sys.stderr, flush=True)

    return report


def summary(folder: Path, against: str) -> list[dict[str, Any]]:
    """One line an arm, fraction and length: mean metrics, and the paired difference of AP50 to ``against``."""
    found: dict[tuple[str, float, int], dict[int, dict[str, Any]]] = {}
    for path in sorted((folder / "finetune").glob("*.json")):
        document = json.loads(path.read_text())
        asked = int(path.stem.rsplit("-", 2)[1])
        found.setdefault((document["arm"], document["fraction"], asked), {})[document["draw"]] = document
    lines = []
    for (arm, fraction, asked), draws in sorted(found.items()):
        line: dict[str, Any] = {"arm": arm, "fraction": fraction, "images_seen": asked, "draws": sorted(draws)}
        line |= {key: round(statistics.mean(each[key] for each in draws.values()), 2) for key in ("AP", "AP50", "AP75", "seconds")}
        other = found.get((against, fraction, asked), {})
        pairs = [draws[draw]["AP50"] - other[draw]["AP50"] for draw in sorted(draws) if draw in other]
        if arm != against and len(pairs) > 1:
            half = stats.t.ppf(0.975, len(pairs) - 1) * statistics.stdev(pairs) / len(pairs) ** 0.5
            line["difference"] = [round(statistics.mean(pairs), 2), round(float(half), 2)]
        lines.append(line)
    return lines


def draw_losses(folder: Path, names: list[str], images: int, path: Path) -> None:
    """The losses of arms over the images seen, from the logs of their pre-training."""
    from engine.evaluation.drawing import training_curves

    runs = {}
    for name in names:
        rows = read_log(folder / f"{_same(name)}-{images}.run" / LOG_NAME)
        seen = [float(row["images_seen"]) for row in rows]
        runs[name] = {key: (seen, [float(row[key]) for row in rows]) for key in rows[0] if key == "loss" or key.startswith("loss.")}
    training_curves(runs, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=["pretrain", "finetune", "summary", "losses", "arms"])
    parser.add_argument("names", nargs="*", metavar="ARM")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--images-seen", type=int, default=5200)
    parser.add_argument("--pretrain-images", type=int, default=5200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", default="none")
    parser.add_argument(
        "--schedule", nargs="+", default=[], metavar="KEY=VALUE", help="of ScheduleConfig, for fine-tuning; to be given an OUT of its own"
    )
    parser.add_argument(
        "--detector",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="of DetectorConfig; to be given an OUT of its own",
    )
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(ARMS))
    if unknown:
        parser.error(f"no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
    if chosen.what == "arms":
        print(json.dumps({name: arm._asdict() for name, arm in ARMS.items()}, indent=1))
    elif chosen.what == "summary":
        for line in summary(chosen.out / ("dev" if chosen.dev else "test"), chosen.against):
            print(json.dumps(line))
    elif chosen.what == "losses":
        draw_losses(
            chosen.out / ("dev" if chosen.dev else "test") / "pretrain", chosen.names, chosen.pretrain_images, chosen.out / "losses.png"
        )
    else:
        bench = Bench(chosen)
        for name in chosen.names or list(ARMS):
            if chosen.what == "pretrain":
                bench.pretrained(name)
            else:
                for draw in chosen.draws:
                    bench.finetuned(name, draw)


if __name__ == "__main__":
    main()
