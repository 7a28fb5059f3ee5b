"""Workers in forks of a process that has everything imported, so that each starts at once and may be killed.

One JSON document a line on stdin: {"start": [arguments of ``tilehawk``], "environment": {...}} answers with the process id of the fork;
{"wait": process id} with its exit status, as ``waitpid`` gives it. Nothing in this process may start a thread.
"""

import importlib
import json
import os
import sys

import dbos  # noqa: F401 - imported for the forks
import torch
from sqlalchemy.orm import configure_mappers

import app.worker
from app.cli.main import run
from app.workflows.verbs import VERBS

torch.set_num_threads(1)
configure_mappers()
for verb in VERBS.values():
    for name in (verb.config, verb.function):
        importlib.import_module(name.partition(":")[0])
assert app.worker


def act(task):
    if "wait" in task:
        return os.waitpid(task["wait"], 0)[1]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            os.close(0)
            os.dup2(2, 1)
            os.environ.update(task["environment"])
            status = run(task["start"])
        finally:
            os._exit(status)
    return child


sys.stdout.write("ready\n")
sys.stdout.flush()
for line in sys.stdin:
    sys.stdout.write(f"{act(json.loads(line))}\n")
    sys.stdout.flush()
