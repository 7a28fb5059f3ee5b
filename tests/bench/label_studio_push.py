"""Push 1,000 tiles with five boxes each to a real Label Studio, against Label Studio's own bulk import of the same tasks.

    python tests/bench/label_studio_push.py OUT.json

Both go to the same server, in turn, each time into a new project. Label Studio's own import is one request of its SDK with the very tasks
that the push sends. ``TILEHAWK_LABEL_STUDIO_VENV`` names a virtual environment that has Label Studio; else one is made.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from connectors.label_studio import tasks as forms
from connectors.label_studio.client import LabelStudioServer
from engine.annotation_server import Cursor
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.annotations import set_label_set
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.reviews import tile_state
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import RemoteTask
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.files import write_json
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
import annotators
import catalog
import real_label_studio

CLASSES = LabelSet.of(["car", "ship", "plane"])
TILES, BOXES, SIDE, REPEATS, ANSWERED = 1000, 5, 256, 3, 25
ALLOWED_RATIO, ALLOWED_PIXELS = 1.5, 0.01


def address(tile: int) -> str:
    return f"http://127.0.0.1:7860/signed/tiles/{tile}.png?expires=1800000000&signature={'0' * 64}"


def fill(workspace: Workspace) -> None:
    """One scene of 1,000 tiles, each with five boxes of a detector, all in one round."""
    generator = np.random.default_rng(0)
    with workspace.session() as session:
        set_label_set(session, CLASSES.names)
        catalog.add_scene(session, "coast.tif", width=SIDE * 40, height=SIDE * 25, tile=SIDE, split="train")
        ids = [tile.id for tile in tiles(session, split="train")]
        cells = np.array([[0, 0], [80, 0], [160, 0], [0, 80], [80, 80]])
        corner = np.tile(cells, (len(ids), 1)) + generator.uniform(0, 60, (len(ids) * BOXES, 2))
        labels = generator.integers(0, len(CLASSES), len(corner))
        class_scores = np.zeros((len(corner), len(CLASSES)))
        class_scores[np.arange(len(corner)), labels] = 0.8
        Predictions(
            tile_ids=np.array(ids),
            embeddings=generator.normal(size=(len(ids), 8)),
            tile_index=np.repeat(np.arange(len(ids)), BOXES),
            boxes_tile=np.hstack([corner, corner + generator.uniform(8, 12, corner.shape)]),
            labels=labels,
            scores=class_scores.max(axis=1),
            class_scores=class_scores,
            drift=np.zeros(len(corner)),
        ).save(predictions_directory(workspace, "bench"))
        model = add_model(session, name="bench", stage="finetune", config={}, data_hash="0" * 64, label_set_fingerprint=CLASSES.fingerprint)
        made = add_prediction_set(session, name="bench", model=model, tiles=len(ids))
        chosen = [ChosenTile(tile, 1.0, 20.0, {"why": "nothing is labelled yet that is like it"}) for tile in ids]
        add_round(session, budget_seconds=1e6, strategy="random", seed=0, chosen=chosen, prediction_set_id=made.id)


class Recorder(LabelStudioServer):
    """Remembers the tasks that a push sent, as they went over the wire."""

    def add_tasks(self, project_id: int, tasks: Any, label_set: LabelSet) -> list[int]:
        self.sent = [forms.as_task(task, label_set) for task in tasks]
        return super().add_tasks(project_id, tasks, label_set)


def timed(act: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = act()
    return time.perf_counter() - began, found


def own_import(server: Recorder, number: int) -> float:
    """Seconds of Label Studio's own bulk import of the same tasks into a new project."""
    project = server.make_project("own import", f"own import {number}", CLASSES)
    seconds, found = timed(lambda: server._sdk.projects.import_tasks(id=project.id, request=server.sent))
    assert found.task_count == TILES
    assert server.project(project.id).tasks == TILES
    return seconds


def drawn_and_pulled(workspace: Workspace, server: LabelStudioServer, people: Any) -> float:
    """The largest distance in pixels between an edge that an annotator drew and the edge that a pull brought."""
    generator = np.random.default_rng(1)
    with workspace.session(write=False) as session:
        project = remote.projects(session, server.address)[-1]
        rows = sorted(remote.tasks_of(session, project).values(), key=lambda row: row.tile_id)[:ANSWERED]
    drawn = {}
    for row in rows:
        corner = generator.uniform(0, SIDE - 60, (BOXES, 2))
        drawn[row.tile_id] = np.hstack([corner, corner + generator.uniform(4, 50, corner.shape)])
        regions = []
        for x1, y1, x2, y2 in drawn[row.tile_id] / SIDE * 100:
            regions.append(annotators.rectangle(x1, y1, x2 - x1, y2 - y1, side=SIDE))
        people.submit(int(row.remote_id), regions, lead_time=20.0)
    report = pull(workspace, server, PullConfig())
    assert report.tiles == ANSWERED
    assert server.answers(int(project.remote_id), Cursor(project.cursor_at, project.cursor_id), 10)
    worst = 0.0
    with workspace.session(write=False) as session:
        for tile, expected in drawn.items():
            found: Boxes = tile_state(session, tile).boxes_tile
            worst = max(worst, float(np.abs(found.xyxy[np.lexsort(found.xyxy.T)] - expected[np.lexsort(expected.T)]).max()))
    return worst


def version_of(url: str) -> str:
    with urllib.request.urlopen(f"{url}/api/version", timeout=60) as answer:
        return str(json.load(answer)["release"])


def measure(folder: Path) -> dict[str, Any]:
    data = folder / "server"
    data.mkdir()
    pushes, imports, again = [], [], []
    with real_label_studio.serving(data) as real:
        server = Recorder(real.url, real.token)
        server.who()
        for number in range(REPEATS):
            with Workspace.create(folder / f"workspace-{number}") as workspace:
                fill(workspace)
                seconds, report = timed(lambda opened=workspace: push(opened, server, address, PushConfig()))
                assert (report.pushed, report.boxes) == (TILES, TILES * BOXES)
                pushes.append(seconds)
                imports.append(own_import(server, number))
                again.append(timed(lambda opened=workspace: push(opened, server, address, PushConfig()))[0])
                with workspace.session(write=False) as session:
                    assert session.query(RemoteTask).count() == TILES
                if number == REPEATS - 1:
                    people = annotators.Annotators(real.url, real.token)
                    worst = drawn_and_pulled(workspace, server, people)
                    people.close()
        release = version_of(real.url)
    ratio = statistics.median(pushes) / statistics.median(imports)
    return {
        "command": "python tests/bench/label_studio_push.py docs/benchmarks/service/label_studio_push.json",
        "tasks": TILES,
        "boxes_per_task": BOXES,
        "push_seconds": [round(each, 3) for each in pushes],
        "own_import_seconds": [round(each, 3) for each in imports],
        "push_again_seconds": [round(each, 3) for each in again],
        "median_push_seconds": round(statistics.median(pushes), 3),
        "median_own_import_seconds": round(statistics.median(imports), 3),
        "ratio": round(ratio, 3),
        "allowed_ratio": ALLOWED_RATIO,
        "pulled_boxes": ANSWERED * BOXES,
        "largest_difference_pixels": worst,
        "allowed_difference_pixels": ALLOWED_PIXELS,
        "load_at_the_end": os.getloadavg(),
        "cores": os.cpu_count(),
        "versions": {
            "label-studio": release,
            "label-studio-sdk": importlib.metadata.version("label-studio-sdk"),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
    }


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        document = measure(Path(folder))
    write_json(Path(sys.argv[1]), document)
    print(json.dumps(document, indent=2))
    return int(document["ratio"] > ALLOWED_RATIO or document["largest_difference_pixels"] > ALLOWED_PIXELS)


if __name__ == "__main__":
    raise SystemExit(main())
