"""How good and how fast "more like this" is on NWPU VHR-10.

    python tests/bench/search_nwpu.py OUT [--ground val] [--seed 1] [--a-class 6] [--threads 1] [--no-one-shot]
    python tests/bench/search_nwpu.py OUT --archive val --asked WEIGHTS…

Needs TILEHAWK_DATA. All 650 images, shrunk to 320 px on the longest side, are one archive of 650 tiles, all training ground; the model
is pre-trained on them without labels. Query objects are drawn from the images of one of NWPU's two lists, as many of each class. A hit is
right where its box overlaps one of the query's class by IoU 0.3; "centre" asks only that its middle lies in such a box. The query itself
is never a hit. "tile AP" ranks all other tiles by their best hit and asks which show the query's class. Writes OUT/search-GROUND-SEED.json.

With --asked, detectors that tests/bench/one_shot.py made (their .safetensors) search too, each by its backbone's features alone and as
search does it; with --archive val in the 130 tiles that none of them has learned from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from loop_nwpu import SIDE, shrink
from safetensors.torch import load_file

from app.wiring import read_labels
from engine.boxes import Boxes, box_iou
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.look_alikes import LookAlikes
from engine.catalog.models import model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.searches import FoundHit
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.files import write_json
from engine.inference.one_shot import patch_feature
from engine.inference.similarity import Windows
from engine.models.detector import Detector
from engine.models.presets import PRESETS
from engine.models.queries import block_mask
from engine.models.store import load_detector
from engine.pretext.query_patches import PatchConfig
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.stages.search import SearchConfig
from engine.training.loop import ScheduleConfig

DEPTH = 20
GROUP = 10


def prepare(out: Path, images_seen: int, archive: str) -> Workspace:
    shrink(Path(os.environ["TILEHAWK_DATA"]) / "nwpu_vhr10", out / "input")
    workspace = Workspace.create(out / "workspace")
    for split in ("train", "val") if archive == "all" else ("val",):
        ingest(
            workspace,
            out / "input" / f"{split}.zip",
            IngestConfig.from_mapping({"tile": SIDE, "ground": "train", "minimum_valid_share": 0.0}),
        )
        import_labels(workspace, read_labels(out / "input" / f"{split}.json"), LabelConfig(withhold=True, allow_unknown_images=True))
    detector = PRESETS["nano"].model_copy(update={"image_size": SIDE})
    if images_seen:
        schedule = ScheduleConfig(images_seen=images_seen, learning_rate=5e-4, seed=0, threads=1)
        pretrain(workspace, PretrainConfig(name="pretrained", detector=detector, schedule=schedule, patches=PatchConfig()))
    return workspace


def draw_queries(known: list[TileRecord], truth: dict[int, Boxes], classes: int, a_class: int, seed: int) -> list[tuple[int, int, int]]:
    """(index of the tile, index of the box, class), ``a_class`` of each class."""
    chance = torch.Generator().manual_seed(seed)
    drawn = []
    for label in range(classes):
        pool = [(row, int(index)) for row, tile in enumerate(known) for index in np.flatnonzero(truth[tile.id].labels == label)]
        drawn += [(*pool[pick], label) for pick in torch.randperm(len(pool), generator=chance)[:a_class].tolist()]
    return drawn


def judge(found: list[FoundHit], truth: dict[int, Boxes], label: int) -> tuple[list[bool], list[bool]]:
    overlaps, centres = [False] * DEPTH, [False] * DEPTH
    for position, hit in enumerate(found[:DEPTH]):
        right = truth[hit.tile_id].xyxy[truth[hit.tile_id].labels == label]
        if len(right):
            x, y = (hit.box_tile[0] + hit.box_tile[2]) / 2, (hit.box_tile[1] + hit.box_tile[3]) / 2
            overlaps[position] = bool(box_iou(np.asarray([hit.box_tile]), right).max() >= 0.3)
            centres[position] = bool(((right[:, :2] <= [x, y]) & (right[:, 2:] >= [x, y])).all(1).any())
    return overlaps, centres


def tile_ap(found: list[FoundHit], truth: dict[int, Boxes], label: int, asked: int) -> float:
    """Average precision of the ranking of all tiles but the query's own; those without a hit come last, in the worst order."""
    best: dict[int, float] = {}
    for hit in found:
        best[hit.tile_id] = max(hit.score, best.get(hit.tile_id, -np.inf))
    shows = {tile: bool((boxes.labels == label).any()) for tile, boxes in truth.items() if tile != asked}
    order = sorted(shows, key=lambda tile: (-best.get(tile, -np.inf), shows[tile]))
    right = np.cumsum([shows[tile] for tile in order])
    ranks = [place for place, tile in enumerate(order) if shows[tile]]
    return float(np.mean([right[place] / (place + 1) for place in ranks])) if ranks else float("nan")


def asked_finder(path: Path, workspace: Workspace, pixels: TilePixels, archive: list[TileRecord]) -> LookAlikes:
    """Look-alikes by a one-shot detector of a file of weights."""
    detector = PRESETS["nano"].model_copy(update={"image_size": SIDE, "one_shot": True, "backbone_weights": "none"})
    model = Detector(detector, 1)
    model.load_state_dict(load_file(path))
    finder = LookAlikes(workspace, model.eval(), pixels, archive)
    finder.describe()
    return finder


def as_hits(archive: list[TileRecord], best: Windows) -> list[FoundHit]:
    rows = zip(best.tile_index.tolist(), best.boxes.tolist(), best.likeness.tolist(), strict=True)
    return [FoundHit(archive[row].id, (box[0], box[1], box[2], box[3]), score) for row, box, score in rows]


@torch.inference_mode()
def one_shot_everywhere(finder: LookAlikes, model, pixels, archive, queries) -> list[Windows]:
    """Every query on every tile, ten queries a pass in groups of ten slots, exactly as pre-training has them; each tile is encoded once."""
    features = torch.cat([patch_feature(model, query.patch[None]) for query in queries])
    slots, source, found = model.patch_queries.count, WorkspaceTiles(pixels, archive, {}, SIDE, cache_bytes=0), [[] for _ in queries]
    for row in range(len(archive)):
        memory = model.encode(source.image(row)[None].float().div(255).contiguous(memory_format=torch.channels_last))
        for start in range(0, len(queries), slots // GROUP):
            some = features[start : start + slots // GROUP]
            padded = torch.cat([some, some[:1].expand(slots // GROUP - len(some), -1)])
            decoded = model.decoder(memory, model.patch_queries(padded[None]), block_mask(slots, slots // GROUP, padded.device))
            matched = model.patch_queries.matched(decoded.content[-1])[0, :, 0].sigmoid().view(-1, GROUP)
            middle, sides = decoded.boxes[-1][0].view(-1, GROUP, 4).split(2, -1)
            boxes = torch.cat([middle - sides / 2, middle + sides / 2], -1) * SIDE
            for index in range(len(some)):
                found[start + index].append(Windows(torch.full((GROUP,), row), boxes[index], matched[index]))
    return [finder._clipped(Windows(*(torch.cat(parts) for parts in zip(*each, strict=True)))) for each in found]


def random_boxes(finder: LookAlikes, query, archive: list[TileRecord], chance: torch.Generator) -> Windows:
    rows = torch.randint(len(archive), (DEPTH,), generator=chance)
    sides = torch.tensor([(archive[row].window.width, archive[row].window.height) for row in rows.tolist()])
    size = query.box[2:] - query.box[:2]
    corner = torch.rand(DEPTH, 2, generator=chance) * (sides - size).clamp(min=0)
    return finder._clipped(Windows(rows, torch.cat([corner, corner + size], 1), torch.zeros(DEPTH)))


def summary(outcomes: list[tuple[list[bool], list[bool]]], labels: list[int], names: tuple[str, ...]) -> dict[str, object]:
    overlap, centre = (np.asarray([each[part] for each in outcomes], dtype=float) for part in (0, 1))
    chosen = np.asarray(labels)
    return {
        "precision_at_10": round(float(overlap[:, :10].mean()), 3),
        "precision_at_20": round(float(overlap.mean()), 3),
        "standard_error_at_10": round(float(overlap[:, :10].mean(1).std(ddof=1) / len(overlap) ** 0.5), 3),
        "centre_precision_at_10": round(float(centre[:, :10].mean()), 3),
        "centre_precision_at_20": round(float(centre.mean()), 3),
        "precision_at_10_by_class": {name: round(float(overlap[chosen == label, :10].mean()), 2) for label, name in enumerate(names)},
    }


def tile_summary(values: list[float], labels: list[int], names: tuple[str, ...]) -> dict[str, object]:
    by_class = {name: [value for value, each in zip(values, labels, strict=True) if each == label] for label, name in enumerate(names)}
    means = {name: round(float(np.nanmean(each)), 3) for name, each in by_class.items() if each}
    return {"mean": round(float(np.nanmean(values)), 3), "by_class": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ground", default="val", choices=("train", "val"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--a-class", type=int, default=6)
    parser.add_argument("--pretrain-images", type=int, default=480)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--archive", choices=("all", "val"), default="all")
    parser.add_argument("--asked", type=Path, nargs="*", default=[])
    parser.add_argument("--one-shot", action=argparse.BooleanOptionalAction, default=True)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with prepare(chosen.out, chosen.pretrain_images, chosen.archive) as workspace, TilePixels(workspace) as pixels:
        with workspace.session(write=False) as session:
            archive, names = tiles(session, split="train"), label_set(session).names
            truth = tile_boxes(session, archive, states=("accepted", "withheld"))
        listed = {entry["file_name"] for entry in json.loads((chosen.out / "input" / f"{chosen.ground}.json").read_text())["images"]}
        known = [tile for tile in archive if Path(tile.scene_name).name in listed]
        drawn = draw_queries(known, truth, len(names), chosen.a_class, chosen.seed)
        defaults = SearchConfig(tile=1, box=(0, 0, 8, 8))
        began, began_work = time.monotonic(), time.process_time()
        shutil.rmtree(workspace.predictions, ignore_errors=True)
        workspace.predictions.mkdir()
        model = (
            load_detector(model_directory(workspace, "pretrained"))[0] if chosen.pretrain_images else Detector(PRESETS["nano"], 0).eval()
        )
        finder = LookAlikes(workspace, model, pixels, archive)
        finder.describe()
        describing, describing_work = time.monotonic() - began, time.process_time() - began_work
        chance = torch.Generator().manual_seed(chosen.seed)
        queries, seconds, work, outcomes, ranked = [], [], [], {}, {}
        finders = {path.stem: asked_finder(path, workspace, pixels, archive) for path in chosen.asked}
        for row, index, label in drawn:
            began, began_work = time.monotonic(), time.process_time()
            x1, y1, x2, y2 = truth[known[row].id].xyxy[index].tolist()
            query = finder.query(known[row], (x1, y1, x2, y2))
            found = finder.find(query, hits=40, candidates=defaults.candidates, refined=defaults.refined)
            seconds.append(time.monotonic() - began)
            work.append(time.process_time() - began_work)
            queries.append(query)
            grid = as_hits(archive, finder.distinct(query, finder.windows(query, defaults.candidates), DEPTH))
            random = as_hits(archive, random_boxes(finder, query, archive, chance))
            for name, hits in (("combination", found), ("grid cells alone", grid), ("random boxes", random)):
                outcomes.setdefault(name, []).append(judge(hits, truth, label))
            everywhere = {"hits": 1000, "candidates": 3 * len(archive), "refined": 0}
            ways = {"backbone's features": (finder, 0)}
            for name, each in finders.items():
                ways |= {f"{name}, features alone": (each, 0), f"{name}, asked": (each, len(archive))}
            for name, (each, tiles_asked) in ways.items():
                hits = each.find(each.query(known[row], (x1, y1, x2, y2)), one_shot_tiles=tiles_asked, **everywhere)
                ranked.setdefault(name, []).append(tile_ap(hits, truth, label, known[row].id))
                if each is not finder:
                    outcomes.setdefault(name, []).append(judge(hits, truth, label))
            said = f"{len(queries)}/{len(drawn)} {names[label]} {seconds[-1]:.1f} s, {work[-1]:.1f} s of work"
            print(said, sum(outcomes["combination"][-1][0][:10]), flush=True)
        if chosen.one_shot:
            for query, windows, (_, _, label) in zip(
                queries, one_shot_everywhere(finder, model, pixels, archive, queries), drawn, strict=True
            ):
                hits = as_hits(archive, finder.distinct(query, windows, DEPTH))
                outcomes.setdefault("one-shot detector alone", []).append(judge(hits, truth, label))
    document = {
        "command": "python tests/bench/search_nwpu.py " + " ".join(Path(word).name if "/" in word else word for word in sys.argv[1:]),
        "settings": {key: value for key, value in vars(chosen).items() if key not in ("out", "asked")}
        | {"asked": [path.stem for path in chosen.asked], "queries": len(drawn), "tiles": len(archive)},
        "search": {"candidates": defaults.candidates, "refined": defaults.refined, "patch_size": defaults.patch_size},
        "seconds": {
            "describe_all_tiles_once": round(describing, 1),
            "describe_all_tiles_once_processor": round(describing_work, 1),
            "query_median": round(statistics.median(seconds), 2),
            "query_median_processor": round(statistics.median(work), 2),
            "query_slowest_processor": round(max(work), 2),
        },
        "results": {name: summary(each, [label for _, _, label in drawn], names) for name, each in outcomes.items()},
        "tile_ap": {name: tile_summary(each, [label for _, _, label in drawn], names) for name, each in ranked.items()},
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    write_json(chosen.out / f"search-{chosen.ground}-{chosen.seed}.json", document)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
