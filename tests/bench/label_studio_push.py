"""Push tiles with five boxes each to a real Label Studio, against its own bulk import of the same tasks; then pull all of them annotated.

    python tests/bench/label_studio_push.py OUT.json [TILES [REPEATS]]

Push and import go to the same server, in turn, each time into a new project. Its own import is one request of its SDK with the
very tasks that the push sends. For the pull every task gets an annotation by its own action, which makes one of a prediction; 25
are drawn anew by its REST interface, to see how far boxes move on the way. ``TILEHAWK_LABEL_STUDIO_VENV`` names an environment that has
Label Studio; else one is made.
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

import httpx
import numpy as np

from connectors.label_studio import tasks as forms
from connectors.label_studio.client import LabelStudioServer
from engine.boxes import Boxes
from engine.catalog import remote
from engine.catalog.annotations import set_label_set
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.reviews import tile_state
from engine.catalog.rounds import ChosenTile, add_round
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
BOXES, SIDE, ANSWERED, COLUMNS = 5, 256, 25, 40
PATIENCE_SECONDS = 1200.0
ALLOWED_RATIO, ALLOWED_PIXELS, ALLOWED_PULL_SECONDS = 1.5, 0.01, 30.0
"""Seconds of a pull are for each 10,000 tiles."""


def address(tile: int) -> str:
    return f"http://127.0.0.1:7860/signed/tiles/{tile}.png?expires=1800000000&signature={'0' * 64}"


def fill(workspace: Workspace, count: int) -> None:
    """One scene of ``count`` tiles, each with five boxes of a detector, all in one round."""
    generator = np.random.default_rng(0)
    with workspace.session() as session:
        set_label_set(session, CLASSES.names)
        catalog.add_scene(session, "coast.tif", width=SIDE * COLUMNS, height=SIDE * -(-count // COLUMNS), tile=SIDE, split="train")
        ids = [tile.id for tile in tiles(session, split="train")][:count]
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
    """Remembers the tasks that a push sent."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token)
        self._sent: list[Any] = []

    @property
    def sent(self) -> list[Any]:
        """As they went over the wire."""
        return [forms.as_task(task, CLASSES) for task in self._sent]

    def add_tasks(self, project_id: int, tasks: Any, label_set: LabelSet) -> list[int]:
        self._sent += tasks
        return super().add_tasks(project_id, tasks, label_set)


def timed(act: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = act()
    return time.perf_counter() - began, found


def own_import(patient: LabelStudioServer, sent: list[Any], number: int) -> float:
    """Seconds of Label Studio's own bulk import of the same tasks into a new project."""
    project = patient.make_project("own import", f"own import {number}", CLASSES)
    seconds, found = timed(lambda: patient.connection.sdk.projects.import_tasks(id=project.id, request=sent))
    assert found.task_count == len(sent)
    assert patient.project(project.id).tasks == len(sent)
    return seconds


def annotate_all(real: Any, project: int) -> None:
    """Make an annotation of every prediction, by the action of Label Studio's own data manager."""
    everything = {"selectedItems": {"all": True, "excluded": []}, "filters": {"conjunction": "and", "items": []}}
    address = f"{real.url}/api/dm/actions?id=predictions_to_annotations&project={project}"
    answer = httpx.post(address, json=everything, headers={"Authorization": f"Token {real.token}"}, timeout=PATIENCE_SECONDS)
    answer.raise_for_status()


def drawn(workspace: Workspace, server: LabelStudioServer, people: Any, count: int) -> float:
    """The largest distance in pixels between an edge that an annotator drew and the edge that a pull brought."""
    generator = np.random.default_rng(1)
    with workspace.session(write=False) as session:
        project = remote.projects(session, server.address)[-1]
        rows = sorted(remote.tasks_of(session, project).values(), key=lambda row: row.tile_id)[:count]
    expected = {}
    for row in rows:
        corner = generator.uniform(0, SIDE - 60, (BOXES, 2))
        expected[row.tile_id] = np.hstack([corner, corner + generator.uniform(4, 50, corner.shape)])
        regions = []
        for x1, y1, x2, y2 in expected[row.tile_id] / SIDE * 100:
            regions.append(annotators.rectangle(x1, y1, x2 - x1, y2 - y1, side=SIDE))
        people.submit(int(row.remote_id), regions, lead_time=20.0)
    assert pull(workspace, server, PullConfig()).tiles == len(rows)
    worst = 0.0
    with workspace.session(write=False) as session:
        for tile, boxes in expected.items():
            found: Boxes = tile_state(session, tile).boxes_tile
            worst = max(worst, float(np.abs(found.xyxy[np.lexsort(found.xyxy.T)] - boxes[np.lexsort(boxes.T)]).max()))
    return worst


def version_of(url: str) -> str:
    with urllib.request.urlopen(f"{url}/api/version", timeout=60) as answer:
        return str(json.load(answer)["release"])


def measure(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    data = folder / "server"
    data.mkdir()
    pushes, imports, again, pulls, fulls = [], [], [], [], []
    with real_label_studio.serving(data) as real:
        patient = LabelStudioServer(real.url, real.token, answer_seconds=PATIENCE_SECONDS)
        people = annotators.Annotators(real.url, real.token)
        for number in range(repeats):
            server = Recorder(real.url, real.token)
            server.who()
            with Workspace.create(folder / f"workspace-{number}") as workspace:
                fill(workspace, count)
                seconds, report = timed(lambda opened=workspace, to=server: push(opened, to, address, PushConfig()))
                assert (report.pushed, report.boxes) == (count, count * BOXES)
                pushes.append(seconds)
                sent = server.sent
                imports.append(own_import(patient, sent, number))
                again.append(timed(lambda opened=workspace, to=server: push(opened, to, address, PushConfig()))[0])
                annotate_all(real, report.project)
                seconds, pulled = timed(lambda opened=workspace, to=server: pull(opened, to, PullConfig()))
                assert (pulled.tiles, pulled.waiting) == (count, 0)
                pulls.append(seconds)
                seconds, pulled = timed(lambda opened=workspace, to=server: pull(opened, to, PullConfig(full=True)))
                assert (pulled.tiles, pulled.known) == (0, count)
                fulls.append(seconds)
                worst = drawn(workspace, server, people, min(ANSWERED, count))
        people.close()
        release = version_of(real.url)
    per_10_000 = 10_000 / count * statistics.median(pulls)
    return {
        "command": f"python tests/bench/label_studio_push.py OUT.json {count} {repeats}",
        "tasks": count,
        "boxes_per_task": BOXES,
        "push_seconds": rounded(pushes),
        "own_import_seconds": rounded(imports),
        "push_again_seconds": rounded(again),
        "pull_seconds": rounded(pulls),
        "full_pull_of_known_seconds": rounded(fulls),
        "median_push_seconds": round(statistics.median(pushes), 3),
        "median_own_import_seconds": round(statistics.median(imports), 3),
        "median_pull_seconds": round(statistics.median(pulls), 3),
        "ratio": round(statistics.median(pushes) / statistics.median(imports), 3),
        "allowed_ratio": ALLOWED_RATIO,
        "pull_seconds_per_10000": round(per_10_000, 3),
        "allowed_pull_seconds_per_10000": ALLOWED_PULL_SECONDS,
        "redrawn_boxes": min(ANSWERED, count) * BOXES,
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


def rounded(seconds: list[float]) -> list[float]:
    return [round(each, 3) for each in seconds]


def main() -> int:
    if len(sys.argv) not in {2, 3, 4}:
        print(__doc__, file=sys.stderr)
        return 2
    count, repeats = (int(given) if given else usual for given, usual in zip([*sys.argv[2:], "", ""], (1000, 3), strict=False))
    with tempfile.TemporaryDirectory() as folder:
        document = measure(Path(folder), count, repeats)
    write_json(Path(sys.argv[1]), document)
    print(json.dumps(document, indent=2))
    kept = (
        document["ratio"] <= ALLOWED_RATIO,
        document["pull_seconds_per_10000"] <= ALLOWED_PULL_SECONDS,
        document["largest_difference_pixels"] <= ALLOWED_PIXELS,
    )
    return int(not all(kept))


if __name__ == "__main__":
    raise SystemExit(main())
