"""Checkpoints: whole or passed over, whatever happens to their bytes; tests/faults/test_training_faults.py kills their writer."""

import pytest
import torch

from engine.training.checkpoint import CheckpointStore


def save(store, step):
    store.save(step, {"weight": torch.full((3, 2), float(step)), "momentum": torch.arange(4.0) * step}, {"losses": [float(step)] * step})


def is_whole(checkpoint):
    step = checkpoint.step
    return (
        torch.equal(checkpoint.tensors["weight"], torch.full((3, 2), float(step)))
        and torch.equal(checkpoint.tensors["momentum"], torch.arange(4.0) * step)
        and checkpoint.facts == {"losses": [float(step)] * step}
    )


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
