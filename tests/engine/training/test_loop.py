"""The training loop: reproducible, resumable to the bit, and never a step on a broken loss."""

import math

import pytest
import torch
from torch import nn

from engine.errors import BadInput, Cancelled, CheckpointRefused, NothingToDo
from engine.models.detector import Detector
from engine.progress import silent
from engine.training.augment import AugmentConfig
from engine.training.checkpoint import CheckpointStore
from engine.training.data import TileSamples
from engine.training.detection import DetectionTask
from engine.training.loop import seeded, train

STEPS = 8


class PoisonedTask:
    """A detection task whose loss, or whose gradient alone, is broken from a certain call on."""

    def __init__(self, task, *, at, gradient_only=False):
        self.model, self.classes = task.model, task.classes
        self._task, self._at, self._gradient_only, self._calls = task, at, gradient_only, 0

    def loss(self, batch, generator, done=0.0):
        loss, parts = self._task.loss(batch, generator, done)
        self._calls += 1
        if self._calls <= self._at:
            return loss, parts
        if not self._gradient_only:
            return loss * math.nan, parts | {"dense_classes": math.nan}
        zero = (self.model.level_scale - self.model.level_scale).sum()
        return loss + zero.sqrt(), parts


def task(squares, seed=0):
    with seeded(seed):
        return DetectionTask(Detector(squares.TINY, 2))


def schedule(squares, **changes):
    return squares.schedule(images_seen=2 * STEPS, augment=AugmentConfig(), checkpoint_seconds=0.0, **changes)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def uninterrupted(squares):
    """The losses and weights of a run in one go."""
    learned = task(squares)
    run = train(learned, squares.samples(3), schedule(squares), checkpoints=None, progress=silent)
    return run, state(learned.model)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(squares, uninterrupted):
    run, weights = uninterrupted
    again, other = task(squares), task(squares)
    assert train(again, squares.samples(3), schedule(squares), checkpoints=None, progress=silent).losses == run.losses
    assert equal(state(again.model), weights)
    assert train(other, squares.samples(3), schedule(squares, seed=1), checkpoints=None, progress=silent).losses != run.losses


def test_the_report_counts_what_was_done(squares, uninterrupted):
    run, _ = uninterrupted
    assert (run.steps, run.images_seen, len(run.losses), run.resumed_at) == (STEPS, 2 * STEPS, STEPS, 0)
    assert run.seconds > 0


@pytest.mark.guarantee("G1")
@pytest.mark.parametrize("stopped_after", [1, 3, STEPS - 1, STEPS])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(squares, tmp_path, uninterrupted, stopped_after, stop_at):
    run, weights = uninterrupted
    config = schedule(squares).model_copy(update={"checkpoint_seconds": 1e9})
    with pytest.raises(Cancelled):
        train(task(squares), squares.samples(3), config, checkpoints=CheckpointStore(tmp_path), progress=stop_at(2 * stopped_after))
    learned = task(squares, seed=7 if stopped_after == STEPS else 0)
    resumed = train(learned, squares.samples(3), config, checkpoints=CheckpointStore(tmp_path), progress=silent)
    assert resumed.resumed_at == stopped_after
    assert resumed.losses == run.losses
    assert equal({name: weight for name, weight in learned.model.named_parameters() if weight.requires_grad}, weights)


@pytest.mark.guarantee("G1")
def test_a_run_that_resumes_at_every_step_is_the_same_run(squares, tmp_path, uninterrupted, stop_at):
    run, weights = uninterrupted
    for step in range(1, STEPS):
        with pytest.raises(Cancelled):
            train(task(squares), squares.samples(3), schedule(squares), checkpoints=CheckpointStore(tmp_path), progress=stop_at(2 * step))
    learned = task(squares)
    assert (
        train(learned, squares.samples(3), schedule(squares), checkpoints=CheckpointStore(tmp_path), progress=silent).losses == run.losses
    )
    assert equal(state(learned.model), weights)


def test_checkpoints_are_written_when_they_are_due(squares, tmp_path):
    class Store(CheckpointStore):
        def save(self, step, tensors, facts):
            saved.append(step)

    saved = []
    train(task(squares), squares.samples(3), schedule(squares), checkpoints=Store(tmp_path), progress=silent)
    assert saved == list(range(1, STEPS))
    rare = schedule(squares).model_copy(update={"checkpoint_seconds": 1e9})
    train(task(squares), squares.samples(3), rare, checkpoints=Store(tmp_path), progress=silent)
    assert saved == list(range(1, STEPS))


@pytest.mark.guarantee("G31")
def test_a_checkpoint_of_another_model_is_refused_and_no_weight_changed(squares, tmp_path, stop_at):
    store = CheckpointStore(tmp_path)
    with pytest.raises(Cancelled):
        train(task(squares), squares.samples(3), schedule(squares), checkpoints=store, progress=stop_at(2))
    with seeded(0):
        other = DetectionTask(Detector(squares.TINY, 3))
    before = state(other.model)
    with pytest.raises(CheckpointRefused, match=r"class_heads.*differ"):
        train(other, squares.samples(3), schedule(squares), checkpoints=store, progress=silent)
    assert equal(state(other.model), before)


@pytest.mark.guarantee("G29")
@pytest.mark.parametrize("gradient_only", [False, True], ids=["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_a_weight_changes(squares, tmp_path, gradient_only):
    poisoned = PoisonedTask(task(squares), at=3, gradient_only=gradient_only)
    poisoned.model.level_scale = nn.Parameter(torch.ones(1))
    store = CheckpointStore(tmp_path / "run")
    with pytest.raises(BadInput, match=r"(loss|gradient) is nan at step 3.*on the tiles number \d, number \d"):
        train(poisoned, squares.samples(3), schedule(squares), checkpoints=store, progress=silent, log=tmp_path / "log")
    assert (tmp_path / "log" / "not-finite-step-00000003" / "batch.safetensors").is_file()
    last = store.load_last()
    assert last.step == 3
    after = dict(poisoned.model.named_parameters())
    assert all(
        torch.equal(tensor, after[name.removeprefix("model.")]) for name, tensor in last.tensors.items() if name.startswith("model.")
    )


def test_what_is_frozen_stays(squares):
    with seeded(0):
        learned = DetectionTask(Detector(squares.TINY.model_copy(update={"frozen_stages": 2}), 2))
    before = state(learned.model)
    train(learned, squares.samples(3), schedule(squares), checkpoints=None, progress=silent)
    changed = {name for name, tensor in learned.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in changed if name.startswith(("backbone.body.conv_stem", "backbone.body.blocks.0", "backbone.body.bn1"))]
    assert [name for name in changed if name.startswith("backbone.body.blocks.4")]


def test_the_model_is_left_with_the_average_of_its_weights(squares, tmp_path, stop_at):
    """After a step of decay ½ at the start, the average lies between where the weights were and where they are."""
    learned = task(squares)
    before = state(learned.model)
    store = CheckpointStore(tmp_path)
    with pytest.raises(Cancelled):
        train(learned, squares.samples(3), schedule(squares), checkpoints=store, progress=stop_at(2))
    held = store.load_last().tensors
    name = "encoder.level_embedding"
    expected = before[name] + (held[f"model.{name}"] - before[name]) * (1 - 1 / 10)
    assert torch.allclose(held[f"average.{name}"], expected, atol=1e-7)
    train(learned, squares.samples(3), schedule(squares), checkpoints=None, progress=silent)
    assert not learned.model.training


def test_no_tile_is_nothing_to_do(squares):
    with pytest.raises(NothingToDo):
        train(task(squares), TileSamples([], [], 64), schedule(squares), checkpoints=None, progress=silent)


def test_progress_counts_images(squares):
    told = []
    config = squares.schedule(images_seen=3)
    train(task(squares), squares.samples(2), config, checkpoints=None, progress=lambda *call: told.append(call[:2]))
    assert told == [(2, 4), (4, 4)]
