"""Runs pushes and pulls that are to die, each in a fork of a process that has everything imported.

One JSON document a line on stdin: {"verb", "workspace", "url", "token", "config", and at most one of "before", "after" (the n-th request)
and "at_commit"}. For each, the fork's exit status is written on a line, as ``waitpid`` gives it.
"""

import json
import os
import signal
import sys
from pathlib import Path

import httpx
from sqlalchemy import Engine, event
from sqlalchemy.orm import configure_mappers

from connectors.label_studio.client import LabelStudioServer
from engine.catalog.workspace import Workspace
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push


class DieAt:
    """Kills this very process when it is called for the ``count``-th time."""

    def __init__(self, count):
        self.left = count

    def __call__(self, *_arguments):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Transport(httpx.HTTPTransport):
    """The network, with a death before a request leaves or after its answer has come and before anybody read it."""

    def __init__(self, before, after):
        super().__init__(verify=False)
        self.before, self.after = DieAt(before), DieAt(after)

    def handle_request(self, request):
        self.before()
        answer = super().handle_request(request)
        self.after()
        return answer


def run(task):
    transport = Transport(task.get("before", -1), task.get("after", -1))
    server = LabelStudioServer(task["url"], task["token"], transport=transport, pause=lambda _: None)
    with Workspace.open(Path(task["workspace"])) as workspace:
        event.listen(Engine, "commit", DieAt(task.get("at_commit", -1)))
        if task["verb"] == "push":
            push(workspace, server, lambda tile: f"http://127.0.0.1:7860/{tile}.png", PushConfig(**task["config"]))
        else:
            pull(workspace, server, PullConfig(**task["config"]))


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


configure_mappers()
warm = LabelStudioServer("http://127.0.0.1:9", "x").connection.sdk
assert all((warm.users, warm.projects, warm.tasks, warm.predictions))
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
    say(os.waitpid(child, 0)[1])
