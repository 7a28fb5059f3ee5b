import os
import re
import signal
import subprocess
import sys
import time

import pytest

from engine.catalog.locks import exclusive, holder_of
from engine.errors import WorkspaceBusy

HOLD = """
import sys
from pathlib import Path
from engine.catalog.locks import exclusive
with exclusive(Path(sys.argv[1]), "pretrain"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "worker.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_what_and_since_when(tmp_path, holder):
    with (
        pytest.raises(WorkspaceBusy, match=rf"process {holder.pid} \(pretrain, since \d{{4}}-\d\d-\d\d"),
        exclusive(tmp_path / "worker.lock", "finetune"),
    ):
        pass
    found = holder_of(tmp_path / "worker.lock")
    assert (found.pid, found.purpose) == (holder.pid, "pretrain")
    assert abs(found.since - time.time()) < 60


def test_the_kernel_frees_the_lock_of_a_killed_holder(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert re.search("pretrain", (tmp_path / "worker.lock").read_text()), "its note is still there, and binds nobody"
    assert holder_of(tmp_path / "worker.lock") is None
    with exclusive(tmp_path / "worker.lock", "finetune"):
        assert holder_of(tmp_path / "worker.lock").pid == os.getpid()


def test_waiting_takes_over_when_the_holder_is_done(tmp_path, holder):
    holder.stdin.close()
    with exclusive(tmp_path / "worker.lock", "finetune", wait_seconds=30):
        assert holder_of(tmp_path / "worker.lock").purpose == "finetune"


def test_the_lock_is_free_after_the_block_and_after_an_error_in_it(tmp_path):
    lock = tmp_path / "worker.lock"
    with pytest.raises(RuntimeError), exclusive(lock, "predict"):
        raise RuntimeError
    assert holder_of(lock) is None
    with exclusive(lock, "predict"):
        pass
    assert holder_of(lock) is None


def test_nobody_holds_a_lock_that_was_never_taken(tmp_path):
    assert holder_of(tmp_path / "worker.lock") is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"pid": 1}', b"[]"])
def test_an_unreadable_note_still_refuses(tmp_path, damage):
    lock = tmp_path / "worker.lock"
    with exclusive(lock, "predict"):
        lock.write_bytes(damage)
        assert holder_of(lock) is not None
        with pytest.raises(WorkspaceBusy), exclusive(lock, "predict"):
            pass


def test_a_shorter_note_replaces_a_longer_one_whole(tmp_path):
    lock = tmp_path / "worker.lock"
    for purpose in ("a very long purpose indeed", "short"):
        with exclusive(lock, purpose):
            assert holder_of(lock).purpose == purpose
