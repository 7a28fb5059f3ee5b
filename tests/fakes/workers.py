"""Real workers in processes of their own, and ways to wait for what they do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 60.0


def until(condition, *, seconds=PATIENCE, every=0.02):
    """The first true answer of ``condition``; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Workers:
    """The process of ``worker_child.py``; a context manager that leaves no worker behind."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, Path(__file__).with_name("worker_child.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment)
        self._running = set()
        assert self._line() == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.end_all()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def _line(self):
        line = self._process.stdout.readline().strip()
        assert line, "the child process died"
        return line

    def _ask(self, **task):
        self._process.stdin.write(json.dumps(task) + "\n")
        return int(self._line())

    def start(self, root, jobs=None, **environment):
        """Begin a worker; returns its process id, where ``jobs`` is given as soon as it has given a sign of life."""
        pid = self._ask(start=["worker", "--workspace", str(root)], environment=environment)
        self._running.add(pid)
        if jobs is not None:
            until(lambda: (found := jobs.worker()) is not None and found.pid == pid and found.alive)
        return pid

    def run(self, *arguments):
        """A whole command; returns its exit code."""
        return os.waitstatus_to_exitcode(self._ask(wait=self._ask(start=[str(each) for each in arguments], environment={})))

    def tell(self, pid, number):
        """Send a signal to a worker."""
        assert pid in self._running
        os.kill(pid, number)

    def end(self, pid, signal_number=signal.SIGTERM):
        """Send a signal and wait; returns the exit code, negative for a death by signal."""
        os.kill(pid, signal_number)
        return self.wait(pid)

    def wait(self, pid):
        """Wait for the end of a worker; returns its exit code."""
        self._running.discard(pid)
        return os.waitstatus_to_exitcode(self._ask(wait=pid))

    def end_all(self):
        """Kill every worker that is left."""
        for pid in list(self._running):
            self.end(pid, signal.SIGKILL)
