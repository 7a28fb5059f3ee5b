"""Steps: the same gradient in any number of parts, smaller parts where memory runs out, and nothing changed by numbers that are none."""

import pytest
import torch
from accelerate import Accelerator

from engine.errors import TilehawkError
from engine.training.batches import BatchLoader
from engine.training.faults import NotFinite
from engine.training.optimization import TrainingState
from engine.training.schedule import plan_steps
from engine.training.step import Stepper, micro_batches


@pytest.fixture(scope="module")
def small(fake):
    return fake("training")


def taken(small, task, *, micro_batch, steps=3, **changes):
    """The stepper, its state and the results after some steps."""
    config = small.schedule(**changes)
    state = TrainingState(task.model, config)
    stepper = Stepper(task, state, config, Accelerator(cpu=True), micro_batch)
    loader = BatchLoader(small.tiles(6), config, plan_steps(config), {})
    state.set_rates(1.0)
    return stepper, state, [stepper.take(loader.batch(step)) for step in range(steps)]


def close(one, other):
    return all(torch.allclose(weight, other.trained[name], atol=1e-6) for name, weight in one.trained.items())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_parts_of_a_batch_add_up_to_the_whole(small, size):
    _, whole, results = taken(small, small.Counting(), micro_batch=4)
    task = small.Counting()
    _, parts, accumulated = taken(small, task, micro_batch=size)
    assert max(task.sizes) == size
    assert [result.loss for result in accumulated] == pytest.approx([result.loss for result in results], rel=1e-5)
    assert [result.gradient_norm for result in accumulated] == pytest.approx([result.gradient_norm for result in results], rel=1e-4)
    assert accumulated[-1].parts == pytest.approx(results[-1].parts, rel=1e-5)
    assert close(whole, parts)


def test_images_without_objects_weigh_as_they_do_in_the_whole_batch(small):
    samples = [small.tiles(3).sample(index) for index in range(3)]
    bare = samples[0]._replace(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assert [weight for _, weight in micro_batches([samples[2], bare, samples[1]], 1)] == [3 / 5, 1 / 5, 2 / 5]
    assert [weight for _, weight in micro_batches([bare] * 4, 3)] == [3 / 4, 1 / 4]


@pytest.mark.guarantee("G30")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError], ids=["gpu", "cpu"])
@pytest.mark.parametrize(("holds", "sizes"), [(3, [4, 2, 2]), (1, [4, 2, 1, 1, 1, 1])])
def test_where_memory_runs_out_the_parts_halve_and_the_step_is_the_same(small, error, holds, sizes):
    _, whole, results = taken(small, small.Counting(), micro_batch=4)
    task = small.Counting(holds=holds, error=error)
    stepper, parts, found = taken(small, task, micro_batch=4)
    assert task.sizes[: len(sizes)] == sizes
    assert max(task.sizes[1:]) == 2 if holds == 3 else max(task.sizes[2:]) == 1
    assert stepper.shrunk == ([(0, 2)] if holds == 3 else [(0, 2), (0, 1)])
    assert [result.loss for result in found] == pytest.approx([result.loss for result in results], rel=1e-5)
    assert close(whole, parts)


@pytest.mark.guarantee("G30")
def test_memory_that_does_not_hold_one_image_is_an_error_and_no_weight_changes(small):
    task = small.Counting(holds=0)
    before = {name: weight.clone() for name, weight in task.model.state_dict().items()}
    with pytest.raises(TilehawkError, match="memory does not hold the training of one image of 16 px"):
        taken(small, task, micro_batch=4)
    assert all(torch.equal(weight, before[name]) for name, weight in task.model.state_dict().items())


def test_another_error_is_not_taken_for_a_lack_of_memory(small):
    class Broken(small.Counting):
        def loss(self, batch, generator, done=0.0):
            raise RuntimeError("shapes do not agree")

    with pytest.raises(RuntimeError, match="shapes do not agree"):
        taken(small, Broken(), micro_batch=4)


@pytest.mark.guarantee("G29")
@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_number_that_is_none_changes_no_weight(small, broken):
    task = small.Counting(broken=broken, at=0)
    before = {name: weight.clone() for name, weight in task.model.state_dict().items()}
    with pytest.raises(NotFinite) as fault:
        taken(small, task, micro_batch=4)
    assert fault.value.what == broken
    assert all(torch.equal(weight, before[name]) for name, weight in task.model.state_dict().items())


def test_bf16_is_another_arithmetic_near_the_same(small):
    _, _, full = taken(small, small.Counting(), micro_batch=4)
    stepper, state, half = taken(small, small.Counting(), micro_batch=4, precision="bf16")
    assert stepper.bf16
    assert half[0].loss != full[0].loss
    assert half[0].loss == pytest.approx(full[0].loss, rel=0.05)
    assert {weight.dtype for weight in state.trained.values()} == {torch.float32}
