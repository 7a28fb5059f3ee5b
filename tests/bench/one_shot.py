"""One-shot detection on NWPU VHR-10: what a detector finds of classes that it was and was not fine-tuned on, with and without pre-training.

    python tests/bench/one_shot.py OUT run ARM… [--folds 0 1 2] [--fraction 1] [--dev] [--images-seen 5200] [--pretrain-images 5200]
    python tests/bench/one_shot.py OUT summary [--dev]

Needs TILEHAWK_DATA. Fold k holds out the classes number k, k + 3 and k + 6 of the ten: no image that shows one of them is fine-tuned on.
The protocol is that of the paper (UP-DETR, section 4.3): every pair of an image and a class that it shows is asked five times, with crops
of the class from other images, shuffled by the image's id; AP50 is that of each class in each of the five rounds, averaged. Pre-training
sees all images of train.json without labels; with --fraction, only a random part of the fold's images is labelled, draw k in fold k. With
--dev the dev part of train.json is asked, else val.json. One result file a run; nothing is run twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from detectors import Pictures
from nwpu import CLASSES, Picture, load, subset, without_dev
from pretraining import report, require_same, versions
from safetensors.torch import load_file, save_file

from engine.boxes import Boxes
from engine.evaluation.one_shot import LabelledImage, one_shot_metrics, one_shot_questions
from engine.files import write_json
from engine.inference.one_shot import answers, patch_feature
from engine.label_set import LabelSet
from engine.models.detector import Detector, DetectorConfig
from engine.models.presets import PRESETS
from engine.pretext.plan import PretextConfig, plan_pretext
from engine.pretext.regions import find_regions
from engine.pretext.taught_regions import RegionStore
from engine.training.checkpoint import CheckpointStore
from engine.training.joint import JointTask, WeightConfig, Weighted
from engine.training.loop import ScheduleConfig, seeded, train
from engine.training.one_shot import OneShotConfig, OneShotTask, QueryBank, cut
from engine.training.pool import WithPool
from engine.training.schedule import PretrainScheduleConfig
from engine.training.task import Task

FOLDS = {fold: tuple(range(fold, CLASSES - 1, 3)) for fold in range(3)}
KEPT = "-kept"
"""End of the names of arms that go on being asked for regions beside the labels, in every second image."""
ALONE: dict[str, Any] = {"patches": None, "freeze_backbone": False}
ARMS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "look-alikes": {**ALONE, "regions": {"taught": "look-alikes"}},
    "look-alikes-kept": {**ALONE, "regions": {"taught": "look-alikes"}},
    "clusters": {**ALONE, "regions": {"taught": "clusters"}},
    "patches": {"patches": {"patches": 10}},
}


@torch.inference_mode()
def ap50(model: Detector, pictures: list[Picture], patch_size: int, *, bf16: bool) -> dict[int, float]:
    """AP50 of each class in percent, the mean of the rounds."""
    images = [LabelledImage(picture.image_id, Boxes(picture.boxes.numpy(), picture.labels.numpy()), None) for picture in pictures]
    asked = one_shot_questions(images)
    device = next(model.parameters()).device
    found: list[list[Boxes]] = []
    for questions in asked:
        found.append([])
        for question in questions:
            image = pictures[question.image].pixels.to(device).float() / 255
            patch = cut(pictures[question.shown].pixels.to(device), torch.tensor([question.box]), patch_size)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                found[-1] += answers(model, image, patch_feature(model, patch))
    measured = one_shot_metrics(images, asked, found, LabelSet.of([str(label) for label in range(CLASSES)]))
    in_percent = {int(name): [round(100 * value, 2) for value in values] for name, values in measured.rounds_per_class.items()}
    return {label: statistics.mean(values) for label, values in in_percent.items() if values}


class Bench:
    """The runs of one folder."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / ("dev" if chosen.dev else "test")
        changes = {"image_size": chosen.size, "one_shot": True}
        self.detector = DetectorConfig.from_mapping(PRESETS["nano"].model_dump() | changes)
        torch.set_num_threads(chosen.threads)
        pictures = load("train", chosen.size)
        self.train, self.judged = without_dev(pictures) if chosen.dev else (pictures, load("val", chosen.size))

    def schedule(self, images_seen: int) -> ScheduleConfig:
        return ScheduleConfig(images_seen=images_seen, seed=0, threads=self.chosen.threads)

    def pretrained(self, arm: str) -> Path | None:
        pretext = ARMS[arm]
        if pretext is None:
            return None
        path = self.folder / "pretrain" / f"{arm.removesuffix(KEPT)}-{self.chosen.pretrain_images}.safetensors"
        said = PretextConfig.from_mapping(pretext)
        schedule = PretrainScheduleConfig(images_seen=self.chosen.pretrain_images, threads=self.chosen.threads)
        if path.exists():
            require_same(path.with_suffix(".json"), schedule, {"pretext": said.model_dump(mode="json")})
            return path
        folder = path.with_suffix(".run")
        with seeded(0):
            model = Detector(self.detector, said.classes)
            plan = plan_pretext(
                model, said, Pictures(self.train), seed=0, keep=folder, regions=RegionStore(folder / "regions", ""), progress=report(arm)
            )
        checkpoints = CheckpointStore(folder / "checkpoints")
        run = train(plan.task, plan.source, schedule, checkpoints=checkpoints, progress=report(arm), log=folder)
        if said.classes == 1:
            self._write(path.with_name(f"{arm}-{self.chosen.pretrain_images}-alone.json"), model, {"arm": arm, "seconds": run.seconds})
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
        document = {"arm": arm, "seconds": run.seconds, "images_seen": run.images_seen, "pretext": said.model_dump(mode="json")}
        document |= {"schedule": schedule.model_dump(mode="json")}
        write_json(path.with_suffix(".json"), document)
        checkpoints.remove()
        return path

    def run(self, arm: str, fold: int) -> None:
        part = "" if self.chosen.fraction == 1 else f"-{self.chosen.fraction}"
        path = self.folder / "finetune" / f"{arm}{part}-{self.chosen.images_seen}-{fold}.json"
        config = OneShotConfig(**json.loads(self.chosen.asked))
        wanted = {"asked": config.model_dump(mode="json"), "size": self.chosen.size}
        wanted["pretrain_images"] = self.chosen.pretrain_images if ARMS[arm] else 0
        if path.exists():
            require_same(path, self.schedule(self.chosen.images_seen), wanted)
            return
        unseen = FOLDS[fold]
        labelled = [picture for picture in self.train if not set(unseen) & set(picture.labels.tolist())]
        labelled = subset(labelled, self.chosen.fraction, fold)
        start = self.pretrained(arm)
        with seeded(fold):
            model = Detector(self.detector, 1)
        if start is not None:
            held = load_file(start)
            own = model.state_dict()
            fitting = {name: tensor for name, tensor in held.items() if name in own and own[name].shape == tensor.shape}
            model.load_state_dict(fitting, strict=False)
        source = Pictures(labelled)
        task: Task = OneShotTask(model, QueryBank(source, config.patch_size), config)
        if arm.endswith(KEPT):
            task = JointTask({"labels": Weighted(task, WeightConfig()), "regions": Weighted(self._regions(arm, model), WeightConfig())})
        checkpoints = CheckpointStore(path.with_suffix(".run") / "checkpoints")
        schedule = self.schedule(self.chosen.images_seen)
        run = train(task, source, schedule, checkpoints=checkpoints, progress=report(f"{arm} {fold}"))
        document = {"arm": arm, "fold": fold, "unseen": list(unseen), "images": len(labelled), "images_seen": run.images_seen}
        self._write(path, model, document | {"seconds": run.seconds, "precision": run.precision} | wanted)
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path.with_suffix(".safetensors"))
        checkpoints.remove()

    def _regions(self, arm: str, model: Detector) -> Task:
        """What was asked in pre-training, on all images."""
        said = PretextConfig.from_mapping(ARMS[arm] or {}).regions
        assert said is not None
        with seeded(0):
            teacher = Detector(self.detector, said.classes)
        regions = find_regions(Pictures(self.train), said, network=teacher, seed=0, progress=report(arm)).on(Pictures(self.train))
        asked = OneShotTask(model, QueryBank(regions, said.asked.patch_size), said.asked)
        return WithPool(asked, regions, ScheduleConfig().augment, instead=True)

    def _write(self, path: Path, model: Detector, document: dict[str, Any]) -> None:
        found = ap50(model.eval(), self.judged, 64, bf16=document.get("precision") == "bf16")
        unseen = document.get("unseen", [])
        parts = {"seen": [value for label, value in found.items() if label not in unseen]}
        parts["unseen"] = [value for label, value in found.items() if label in unseen]
        document |= {name: round(statistics.mean(values), 2) if values else None for name, values in parts.items()}
        document |= {"by_class": {str(label): round(value, 2) for label, value in found.items()}, "versions": versions()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, document | {"schedule": self.schedule(0 or self.chosen.images_seen).model_dump(mode="json")})
        print(json.dumps({key: document.get(key) for key in ("arm", "fold", "seen", "unseen", "by_class", "seconds")}), flush=True)


def summary(folder: Path) -> list[dict[str, Any]]:
    """One line an arm and length, the mean over folds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "finetune").glob("*.json")):
        found.setdefault(path.stem.rsplit("-", 1)[0], []).append(json.loads(path.read_text()))
    return [
        {"arm": name, "folds": [each["fold"] for each in runs]}
        | {key: round(statistics.mean(each[key] for each in runs), 2) for key in ("seen", "unseen", "seconds")}
        for name, runs in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=["run", "summary"])
    parser.add_argument("arms", nargs="*", metavar="ARM")
    parser.add_argument("--folds", type=int, nargs="+", default=list(FOLDS))
    parser.add_argument("--fraction", type=float, default=1)
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images-seen", type=int, default=5200)
    parser.add_argument("--pretrain-images", type=int, default=5200)
    parser.add_argument("--asked", default="{}", help="changes of OneShotConfig, as JSON")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what == "summary":
        for line in summary(chosen.out / ("dev" if chosen.dev else "test")):
            print(json.dumps(line))
        return
    bench = Bench(chosen)
    for fold in chosen.folds:
        for arm in chosen.arms or list(ARMS):
            bench.run(arm, fold)


if __name__ == "__main__":
    main()
