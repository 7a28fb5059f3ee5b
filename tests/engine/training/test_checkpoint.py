"""Checkpoints: whole or passed over, whatever happens to their bytes; tests/faults/test_training_faults.py kills their writer."""

import shutil

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
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["last-good.json", "step-00000010", "step-00001000"]
    assert store.load_last().step == 1000
    assert store.passed_over == ()
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
    assert [text.split(":")[0] for text in store.passed_over] == ["step-00000002", "step-00000001"]


def cut(content, tenth):
    return content[: len(content) * tenth // 10]


def flip(content, tenth):
    place = min(len(content) * tenth // 10, len(content) - 1)
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.guarantee("G3")
@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("harm", [cut, flip])
@pytest.mark.parametrize("tenth", range(10))
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, name, harm, tenth):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        save(store, step)
    path = tmp_path / "step-00000002" / name
    path.write_bytes(harm(path.read_bytes(), tenth))
    again = CheckpointStore(tmp_path)
    assert is_whole(again.load_last())
    [said] = again.passed_over
    assert said.startswith(f"step-00000002: {name} is ")


@pytest.mark.guarantee("G3")
def test_a_checkpoint_that_is_gone_is_missed(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        save(store, step)
    shutil.rmtree(tmp_path / "step-00000002")
    assert store.load_last().step == 1
    assert store.passed_over == ("step-00000002 is not there any more",)
    shutil.rmtree(tmp_path / "step-00000001")
    assert store.load_last() is None
    assert store.passed_over == ("step-00000002 is not there any more",)


@pytest.mark.guarantee("G3")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"checkpoint": 3}'])
def test_a_damaged_pointer_is_said_and_costs_nothing(tmp_path, content):
    store = CheckpointStore(tmp_path)
    save(store, 7)
    (tmp_path / "last-good.json").write_bytes(content)
    assert store.load_last().step == 7
    assert store.passed_over == ("last-good.json is damaged",)
    save(store, 8)
    assert store.load_last().step == 8
    assert store.passed_over == ()


def test_a_run_that_fell_back_drops_the_damaged_ones_and_keeps_two_good_ones(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (10, 20):
        save(store, step)
    (tmp_path / "step-00000020" / "state.json").write_bytes(b"")
    assert store.load_last().step == 10
    save(store, 15)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000010", "step-00000015"]
    assert store.load_last().step == 15
