"""The whole loop, typed: imagery and labels in, rounds, a detector, its export, a layer of a scene. Tiny, so nothing is learned here."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import run

QUICK = ["--images", "4", "--set", "schedule.batch_size=2", "--set", "schedule.threads=1", "--set", "detector.image_size=64"]
OBJECTS = [(6, 8), (40, 12), (70, 30), (14, 60), (52, 66), (100, 100), (30, 104), (104, 40)]


def labels_of(names: list[str], side: int) -> dict[str, Any]:
    boxes = [(image, x, y) for image in range(1, len(names) + 1) for x, y in OBJECTS]
    return {
        "images": [{"id": number, "file_name": name, "width": side, "height": side} for number, name in enumerate(names, start=1)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 1, "bbox": [x, y, 16, 14], "area": 224, "iscrowd": 0}
            for number, (image, x, y) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "car"}],
    }


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, write_picture: Callable[..., Path]) -> dict[str, Any]:
    """Every command of the loop once, with its document."""
    folder = tmp_path_factory.mktemp("loop")
    names = [f"{number}.png" for number in range(4)]
    for seed, name in enumerate(names):
        write_picture(folder / "imagery" / name, width=128, height=128, seed=seed)
    (folder / "labels.json").write_text(json.dumps(labels_of(names, 128)))
    workspace = folder / "workspace"

    def type_command(*arguments: object) -> Any:
        answer = io.StringIO()
        with contextlib.redirect_stdout(answer):
            code = run([*map(str, arguments), "--workspace", str(workspace), "--json"])
        assert code == 0, answer.getvalue()
        return json.loads(answer.getvalue())

    return {
        "init": type_command("init"),
        "ingest": type_command("ingest", folder / "imagery", "--set", "tile=64", "--set", "overlap=0"),
        "labels": type_command("labels", "import", folder / "labels.json", "--withhold"),
        "pretrain": type_command("pretrain", "--name", "base", *QUICK),
        "rank": type_command("rank", "--budget-minutes", "10", "--strategy", "random", "--seed", "1"),
        "oracle": type_command("oracle"),
        "finetune": type_command("finetune", "--name", "first", "--from", "base", *QUICK),
        "predict": type_command("predict", "--model", "first", "--split", "test"),
        "evaluate": type_command("evaluate", "--model", "first"),
        "export": type_command("export", "--model", "first"),
        "detect": type_command(
            "detect",
            "first",
            folder / "imagery" / "0.png",
            "--out-dir",
            folder / "layers",
            "--formats",
            "gpkg,geojson,coco",
            "--set",
            "overlap=16",
        ),
        "models": type_command("models"),
        "status": type_command("status"),
    }


def test_imagery_and_labels_came_in(loop):
    assert loop["ingest"]["scenes_added"] == 4
    assert loop["labels"]["accepted"] + loop["labels"]["withheld"] == 4 * len(OBJECTS)


def test_round_stays_within_its_budget_and_pays_for_boxes(loop):
    assert loop["rank"]["estimated_seconds"] <= loop["rank"]["budget_seconds"] == 600
    assert loop["oracle"]["round"] == loop["rank"]["round"] == 1
    assert 0 < loop["oracle"]["boxes"] <= loop["labels"]["withheld"]
    assert loop["oracle"]["seconds"] <= 600


def test_models_know_where_they_come_from(loop):
    assert loop["finetune"]["start"] == "base"
    assert [model["name"] for model in loop["models"]["models"]] == ["base", "first"]
    assert loop["status"]["models"] == loop["models"]["models"]
    assert loop["evaluate"]["model"] == loop["predict"]["model"] == "first"


def test_export_computes_what_the_model_computes_and_writes_layers(loop):
    assert loop["export"]["model"] == "first"
    assert set(loop["detect"]["files"]) == {"gpkg", "geojson", "coco"}
    assert all(Path(file).is_file() for file in loop["detect"]["files"].values())
    layer = json.loads(Path(loop["detect"]["files"]["geojson"]).read_text())
    assert len(layer["features"]) == loop["detect"]["boxes"]
