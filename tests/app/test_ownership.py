"""One app is in charge of a workspace; the next takes over when it dies."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from app.ownership import Ownership
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.guarantee("G27")

HOLDER = """
import sys, time
from pathlib import Path
from app.ownership import Ownership
from engine.catalog.workspace import Workspace

with Workspace.open(Path(sys.argv[1])) as workspace, Ownership(workspace, "http://127.0.0.1:1") as ownership:
    print(ownership.read_only(), flush=True)
    time.sleep(120)
"""


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_first_app_is_in_charge_at_once(workspace):
    taken = []
    with Ownership(workspace, "http://127.0.0.1:7860", taken=lambda: taken.append(1)) as ownership:
        assert ownership.read_only() is None
        assert taken == [1]
        assert "http://127.0.0.1:7860" in str(workspace.holder("app"))
    assert workspace.holder("app") is None


def test_second_app_reads_names_the_first_and_takes_over_within_two_seconds_of_its_death(workspace):
    """Two processes, the first killed as by the kernel: nothing of it runs that could tidy up."""
    command = [sys.executable, "-c", HOLDER, str(workspace.root)]
    taken = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline().strip() == "None"
            with Ownership(workspace, "http://127.0.0.1:2", taken=lambda: taken.append(1)) as second:
                assert str(first.pid) in second.read_only()
                assert "http://127.0.0.1:1" in second.read_only()
                assert taken == []
                first.kill()
                assert until(lambda: second.read_only() is None, 2)
                assert taken == [1]
                assert "http://127.0.0.1:2" in str(workspace.holder("app"))
        finally:
            first.kill()


def test_note_of_a_dead_app_is_not_believed(workspace):
    (workspace.root / "app.lock").write_text('{"pid": 1, "purpose": "the app at http://127.0.0.1:1", "since": 0}')
    with Ownership(workspace, "http://127.0.0.1:2") as ownership:
        assert ownership.read_only() is None


def test_app_that_ends_while_it_waits_takes_nothing(workspace):
    with Ownership(workspace, "http://127.0.0.1:1") as first:
        with Ownership(workspace, "http://127.0.0.1:2", poll_seconds=60) as second:
            assert second.read_only() is not None
        assert first.read_only() is None
        assert "http://127.0.0.1:1" in str(workspace.holder("app"))
