"""Writes models in forks of a process that has everything imported, so that each may be killed.

One JSON document a line on stdin: {"verb", "arguments", and optionally "crash_at"}. For each, the fork's process id is written on a line,
and when it has ended its exit status, as ``waitpid`` gives it. Nothing in this process may start a thread: a fork takes only its own along.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from sqlalchemy.orm import configure_mappers

from engine.catalog.workspace import Workspace
from engine.deploy import export
from engine.stages.finetune import FinetuneConfig, finetune
from engine.training.checkpoint import CheckpointStore

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
import squares

torch.set_num_threads(1)
configure_mappers()


def tune(root, config):
    with Workspace.open(Path(root)) as workspace:
        finetune(workspace, FinetuneConfig.from_mapping(config))


def checkpoint(folder, step):
    tensors = {"weight": torch.full((3, 2), float(step)), "momentum": torch.arange(4.0) * step}
    CheckpointStore(Path(folder)).save(step, tensors, {"losses": [float(step)] * step})


def write_export(target, graph, model):
    """The graph is written beforehand, for that takes seconds; all else is the export's own."""
    export.write_graph = lambda detector, path: shutil.copyfile(graph, path)
    images = torch.zeros(1, 3, squares.SIZE, squares.SIZE, dtype=torch.uint8)
    export.export_detector(squares.Cells(), squares.LABELS, images, Path(target), model=model, threads=1)


VERBS = {"finetune": tune, "checkpoint": checkpoint, "export": write_export}


def run(task):
    if "crash_at" in task:
        os.environ["TILEHAWK_CRASH_AT"] = str(task["crash_at"])
    VERBS[task["verb"]](*task["arguments"])


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


say("ready")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(json.loads(line))
            status = 0
        finally:
            os._exit(status)
    say(child)
    say(os.waitpid(child, 0)[1])
