"""A supervisor keeps a worker running where nobody has the workspace, and ends it with itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app import supervisor
from app.supervisor import Supervisor, worker_command
from engine.catalog.workspace import Workspace

HOLDER = """
import sys
from pathlib import Path
from engine.catalog.workspace import Workspace
with Workspace.open(Path(sys.argv[1])) as workspace, workspace.as_worker(wait_seconds=5):
    sys.stdin.read()
"""
PARENT = """
import sys, time
from pathlib import Path
from app.supervisor import Supervisor
from engine.catalog.workspace import Workspace
with Workspace.open(Path(sys.argv[1])) as workspace, Supervisor(workspace, command=sys.argv[2:]):
    time.sleep(600)
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.05)
    with Workspace.create(tmp_path / "workspace") as opened:
        yield opened


@pytest.fixture
def command(workspace):
    """What holds the workspace until its standard input is closed, as a worker does."""
    return [sys.executable, "-c", HOLDER, str(workspace.root)]


@pytest.fixture
def until(fake):
    return fake("workers").until


def test_a_worker_is_started_again_when_it_dies_and_ends_with_the_supervisor(workspace, command, until):
    with Supervisor(workspace, command=command) as watching:
        first = until(lambda: workspace.holder("worker")).pid
        assert first == watching.pid
        os.kill(first, signal.SIGKILL)
        second = until(lambda: (holder := workspace.holder("worker")) and holder.pid != first and holder.pid)
        assert second == watching.pid
    assert watching.pid is None
    assert workspace.holder("worker") is None


def test_none_is_started_beside_another(workspace, command, until):
    with workspace.worker_lock("ingest"), Supervisor(workspace, command=command) as watching, pytest.raises(AssertionError):
        until(lambda: watching.pid, seconds=1)


@pytest.mark.guarantee("G28")
def test_a_worker_ends_when_its_parent_is_killed(workspace, command, until):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(workspace.root), *command])
    until(lambda: workspace.holder("worker"))
    parent.kill()
    parent.wait(10)
    until(lambda: workspace.holder("worker") is None)


def test_the_command_is_a_worker_that_heeds_its_parent(workspace):
    assert worker_command(workspace)[1:] == ["-m", "app.cli.main", "worker", "--with-parent", "--workspace", str(workspace.root)]
