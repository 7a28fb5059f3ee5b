"""Checkpoints: whole or passed over, wherever their writer dies and whatever happens to their bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.files import TEMPORARY
from engine.training.checkpoint import CheckpointStore

CHILD = """
import os, sys
from pathlib import Path
import torch
from engine.training.checkpoint import CheckpointStore

def save(store, step):
    store.save(step, {"weight": torch.full((3, 2), float(step)), "momentum": torch.arange(4.0) * step}, {"losses": [float(step)] * step})

for before in (0, 1, 2):
    for crash_at in range(1, 100):
        store = CheckpointStore(Path(sys.argv[1]) / str(before) / f"{crash_at:03}")
        for step in range(1, before + 1):
            save(store, step)
        child = os.fork()
        if not child:
            os.environ["TILEHAWK_CRASH_AT"] = str(crash_at)
            save(store, before + 1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            break
        assert code == 137, code
"""


def save(store, step):
    store.save(step, {"weight": torch.full((3, 2), float(step)), "momentum": torch.arange(4.0) * step}, {"losses": [float(step)] * step})


def is_whole(checkpoint):
    step = checkpoint.step
    return (
        torch.equal(checkpoint.tensors["weight"], torch.full((3, 2), float(step)))
        and torch.equal(checkpoint.tensors["momentum"], torch.arange(4.0) * step)
        and checkpoint.facts == {"losses": [float(step)] * step}
    )


@pytest.mark.guarantee("G1", "G2")
def test_a_save_that_dies_anywhere_leaves_the_last_checkpoint_or_the_new_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", CHILD, tmp_path], check=True, timeout=120, env=environment)
    for before in (0, 1, 2):
        trials = sorted((tmp_path / str(before)).iterdir())
        assert len(trials) > 6
        found = []
        for folder in trials:
            left = len(list(folder.glob(f"{TEMPORARY}*")))
            store = CheckpointStore(folder)
            checkpoint = store.load_last()
            found.append((checkpoint.step if checkpoint else 0, left))
            assert checkpoint is None or is_whole(checkpoint)
            assert not list(folder.glob(f"{TEMPORARY}*"))
        assert {step for step, _ in found} == {before, before + 1}
        assert (found[0][0], found[-1]) == (before, (before + 1, 0))
        assert max(left for _, left in found) > 0


def test_the_newest_two_are_kept_and_the_last_is_loaded(tmp_path):
    store = CheckpointStore(tmp_path / "run")
    assert store.load_last() is None
    for step in (5, 10, 1000):
        save(store, step)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["step-00000010", "step-00001000"]
    assert store.load_last().step == 1000
    store.remove()
    assert not (tmp_path / "run").exists()


@pytest.mark.guarantee("G1", "G2")
@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_any_flipped_bit_or_missing_end_is_noticed_and_the_one_before_loaded(tmp_path, name):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        save(store, step)
    path = tmp_path / "step-00000002" / name
    whole = path.read_bytes()
    damages = [whole[:length] for length in range(0, len(whole), 7)]
    damages += [whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in range(len(whole))]
    for damage in damages:
        path.write_bytes(damage)
        checkpoint = store.load_last()
        assert is_whole(checkpoint)
        assert checkpoint.step == 1 or damage.split() == whole.split()
    path.unlink()
    assert store.load_last().step == 1


def test_damaged_checkpoints_alone_are_as_none(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        save(store, step)
        (tmp_path / f"step-{step:08d}" / "state.safetensors").write_bytes(b"")
    assert store.load_last() is None
