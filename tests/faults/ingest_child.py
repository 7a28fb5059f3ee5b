"""Runs ingests that are to die, each in a fork of a process that has everything imported.

One JSON document a line on stdin: {"workspace", "source", and at most one of "crash_at", "at_progress", "at_commit", "kill_after"
(seconds)}. For each, the fork's exit status is written on a line, as ``waitpid`` gives it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.orm import configure_mappers

from engine.catalog.workspace import Workspace
from engine.stages import scene_batch
from engine.stages.ingest import IngestConfig, ingest


class DieAt:
    """Kills this very process when it is called for the ``count``-th time."""

    def __init__(self, count):
        self.left = count

    def __call__(self, *_arguments):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run(task):
    if "crash_at" in task:
        os.environ["TILEHAWK_CRASH_AT"] = str(task["crash_at"])
    with Workspace.open(Path(task["workspace"])) as workspace:
        if "at_commit" in task:
            event.listen(Engine, "commit", DieAt(task["at_commit"]))
        ingest(
            workspace,
            Path(task["source"]),
            IngestConfig(tile=32, overlap=8, minimum_valid_share=0.5),
            progress=DieAt(task.get("at_progress", -1)),
        )


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


assert "torch" not in sys.modules
scene_batch.MOST_SCENES = 2
"""So that a small archive comes in several batches."""
configure_mappers()
say("ready")
for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(task)
            status = 0
        finally:
            os._exit(status)
    if "kill_after" in task:
        time.sleep(task["kill_after"])
        os.kill(child, signal.SIGKILL)
    say(os.waitpid(child, 0)[1])
