"""A run whose last checkpoint is damaged goes on from the one before, says so, and ends as if nothing had been."""

import csv
import shutil

import pytest
import torch

from engine.errors import Cancelled
from engine.models.detector import Detector
from engine.progress import silent
from engine.training.checkpoint import CheckpointStore
from engine.training.detection import DetectionTask
from engine.training.loop import seeded, train


class Said:
    """A progress that keeps its messages, and cancels when ``stop`` images are seen."""

    def __init__(self, stop=None):
        self.stop, self.messages = stop, []

    def __call__(self, done, _total, message):
        self.messages.append(message)
        if done == self.stop:
            raise Cancelled("enough")


def task(squares):
    with seeded(0):
        return DetectionTask(Detector(squares.TINY, 2))


def schedule(squares):
    return squares.schedule(images_seen=10, checkpoint_seconds=0.0)


def weights(learned):
    return learned.model.state_dict()


@pytest.fixture(scope="module")
def whole(squares):
    learned = task(squares)
    return train(learned, squares.samples(3), schedule(squares), checkpoints=None, progress=silent).losses, weights(learned)


@pytest.fixture
def stopped(squares, tmp_path):
    """The checkpoints of steps 2 and 3."""
    store = CheckpointStore(tmp_path / "run")
    with pytest.raises(Cancelled):
        train(task(squares), squares.samples(3), schedule(squares), checkpoints=store, progress=Said(stop=6))
    return tmp_path / "run"


def flip(folder):
    path = folder / "step-00000003" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_all(folder):
    for path in folder.glob("step-*/state.json"):
        path.write_text("{")


@pytest.mark.guarantee("G3")
@pytest.mark.parametrize(
    ("harm", "resumed_at", "reasons"),
    [
        (lambda _folder: None, 3, []),
        (flip, 2, ["step-00000003: state.safetensors is not what was saved (sha256 differs)"]),
        (lambda folder: shutil.rmtree(folder / "step-00000003"), 2, ["step-00000003 is not there any more"]),
        (damage_all, 0, ["step-00000003: state.json is damaged", "step-00000002: state.json is damaged"]),
    ],
    ids=["whole", "a flipped bit", "gone", "all damaged"],
)
def test_a_damaged_checkpoint_is_passed_over_and_said(squares, stopped, whole, tmp_path, harm, resumed_at, reasons):
    harm(stopped)
    learned, said = task(squares), Said()
    run = train(learned, squares.samples(3), schedule(squares), checkpoints=CheckpointStore(stopped), progress=said, log=tmp_path / "log")
    assert (run.resumed_at, run.passed_over) == (resumed_at, reasons)
    assert [message for message in said.messages if "damaged" in message] == (
        [f"a checkpoint was damaged ({'; '.join(reasons)}); going on from step {resumed_at}"] if reasons else []
    )
    with (tmp_path / "log" / "log.csv").open(newline="") as stream:
        notes = [row.get("note", "") for row in csv.DictReader(stream)]
    assert [note for note in notes if note] == (["; ".join(reasons)] if reasons else [])
    assert run.losses == whole[0]
    assert all(torch.equal(tensor, whole[1][name]) for name, tensor in weights(learned).items())


@pytest.mark.guarantee("G3")
def test_what_was_passed_over_is_known_after_another_stop(squares, stopped):
    flip(stopped)
    with pytest.raises(Cancelled):
        train(task(squares), squares.samples(3), schedule(squares), checkpoints=CheckpointStore(stopped), progress=Said(stop=8))
    run = train(task(squares), squares.samples(3), schedule(squares), checkpoints=CheckpointStore(stopped), progress=silent)
    assert run.passed_over == ["step-00000003: state.safetensors is not what was saved (sha256 differs)"]
    assert run.resumed_at == 4
