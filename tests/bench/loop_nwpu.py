"""The loop on NWPU VHR-10 for one round at a tenth of the labels, through the same stages that the command line runs.

    python tests/bench/loop_nwpu.py OUT [--share 0.1] [--strategy tilehawk] [--seed 0] [--threads 2]

Needs TILEHAWK_DATA. Images are shrunk to 320 px on the longest side first; train.json is the training ground, val.json the test ground.
The round's budget is ``share`` of what it would cost to draw every box of the training ground. Writes OUT/loop_nwpu.json, and goes on
where it was when it is run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

from PIL import Image

from app.wiring import read_labels
from engine.catalog.annotations import tile_boxes
from engine.catalog.rounds import rounds
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.files import atomic_directory, write_json
from engine.models.presets import PRESETS
from engine.pretext.query_patches import PatchConfig
from engine.selection.cost import Prices
from engine.stages.evaluate import EvaluateConfig, evaluate
from engine.stages.finetune import FinetuneConfig, finetune
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels
from engine.stages.oracle import OracleConfig, consult_oracle
from engine.stages.predict import PredictConfig, predict
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.stages.rank import RankConfig, rank
from engine.training.loop import ScheduleConfig

SIDE = 320


def shrink(data: Path, folder: Path) -> None:
    """Write train.zip, val.zip and their COCO files, images and boxes shrunk to ``SIDE``."""
    if folder.is_dir():
        return
    with atomic_directory(folder) as temporary:
        for split in ("train", "val"):
            document = json.loads((data / f"{split}.json").read_text())
            scales = {}
            with zipfile.ZipFile(temporary / f"{split}.zip", "w", zipfile.ZIP_STORED) as archive:
                for entry in document["images"]:
                    with Image.open(data / "images" / entry["file_name"]) as image:
                        scale = SIDE / max(image.size)
                        size = round(image.width * scale), round(image.height * scale)
                        shrunk = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
                    name = Path(entry["file_name"]).with_suffix(".png").name
                    with archive.open(name, "w") as target:
                        shrunk.save(target, format="PNG")
                    scales[entry["id"]] = scale
                    entry.update(file_name=name, width=size[0], height=size[1])
            for annotation in document["annotations"]:
                annotation["bbox"] = [value * scales[annotation["image_id"]] for value in annotation["bbox"]]
                annotation.pop("segmentation", None)
            (temporary / f"{split}.json").write_text(json.dumps(document))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--strategy", default="tilehawk")
    parser.add_argument("--pretrain-images", type=int, default=1600)
    parser.add_argument("--finetune-images", type=int, default=2600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    began = time.monotonic()
    stamps: dict[str, float] = {}

    def report(done: int, total: int, message: str) -> None:
        if done == total or time.monotonic() - stamps.get("said", 0.0) > 20:
            stamps["said"] = time.monotonic()
            print(f"{time.monotonic() - began:7.0f} s  {message}  {done}/{total}", file=sys.stderr, flush=True)

    given = chosen.out / "input"
    shrink(Path(os.environ["TILEHAWK_DATA"]) / "nwpu_vhr10", given)
    detector = PRESETS["nano"].model_copy(update={"image_size": SIDE})
    common = {"seed": chosen.seed, "threads": chosen.threads}
    with Workspace.create(chosen.out / "workspace") as workspace:
        for split, ground in (("train", "train"), ("val", "test")):
            wanted = IngestConfig.from_mapping({"tile": SIDE, "ground": ground, "minimum_valid_share": 0.0})
            ingest(workspace, given / f"{split}.zip", wanted, progress=report)
            import_labels(
                workspace, read_labels(given / f"{split}.json"), LabelConfig(withhold=True, allow_unknown_images=True), progress=report
            )
        with workspace.session(write=False) as session:
            pool = tiles(session, split="train")
            truth = tile_boxes(session, pool, states=("accepted", "withheld"))
            done = bool(rounds(session))
        prices = Prices()
        everything = sum(prices.open + prices.draw * len(boxes) for boxes in truth.values())
        pretraining = pretrain(
            workspace,
            PretrainConfig(
                name="pretrained",
                detector=detector,
                patches=PatchConfig(),
                schedule=ScheduleConfig(images_seen=chosen.pretrain_images, learning_rate=5e-4, **common),
            ),
            progress=report,
        )
        if not done:
            predict(workspace, PredictConfig(model="pretrained", split="train", threads=chosen.threads), progress=report)
            budget = RankConfig.from_mapping(
                {"budget_seconds": chosen.share * everything, "strategy": chosen.strategy, "seed": chosen.seed}
            )
            rank(workspace, budget, progress=report)
        spent = consult_oracle(workspace, OracleConfig(round=1), progress=report)
        trained = finetune(
            workspace,
            FinetuneConfig(name="round-1", detector=detector, schedule=ScheduleConfig(images_seen=chosen.finetune_images, **common)),
            progress=report,
        )
        predict(workspace, PredictConfig(model="round-1", split="test", threads=chosen.threads), progress=report)
        measured = evaluate(workspace, EvaluateConfig(model="round-1", split="test"), progress=report).metrics
    document = {
        "command": "python tests/bench/loop_nwpu.py " + " ".join(sys.argv[1:]),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items() if key != "out"},
        "pool": {"tiles": len(pool), "boxes": sum(len(boxes) for boxes in truth.values()), "seconds_to_draw_all": everything},
        "round": {"tiles": spent.tiles, "boxes": spent.boxes, "seconds": spent.seconds, "estimated_seconds": spent.estimated_seconds},
        "pretrain": {"seconds": pretraining.seconds, "images_seen": pretraining.images_seen},
        "finetune": {"seconds": trained.seconds, "images_seen": trained.images_seen},
        "test": {"ap": measured.ap, "ap50": measured.ap50, "ap75": measured.ap75},
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    write_json(chosen.out / "loop_nwpu.json", document)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
