"""Groups of parameters, averages, and what a checkpoint holds of them."""

import pytest
import torch

from engine.training.optimization import TrainingState, parameter_groups


@pytest.fixture(scope="module")
def small(fake):
    return fake("training")


def groups(small, **changes):
    """Names by (rate, decay)."""
    trained = dict(small.Mean().named_parameters())
    names = {id(weight): name for name, weight in trained.items()}
    found = parameter_groups(trained, small.schedule(**changes))
    return {(round(group["lr"], 9), group["weight_decay"]): {names[id(weight)] for weight in group["params"]} for group in found}


BACKBONE = {"backbone.body.weight", "backbone.body.bias"}
OFFSETS = {"sampling_offsets.weight", "sampling_offsets.bias"}
REST = {"norm.weight", "norm.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {(2e-4, 1e-4): BACKBONE, (1e-3, 1e-4): OFFSETS | REST}),
        ({"offsets_rate": 0.1}, {(2e-4, 1e-4): BACKBONE, (1e-4, 1e-4): OFFSETS, (1e-3, 1e-4): REST}),
        (
            {"decay_norms_and_biases": False},
            {
                (2e-4, 1e-4): {"backbone.body.weight"},
                (2e-4, 0.0): {"backbone.body.bias"},
                (1e-3, 1e-4): {"sampling_offsets.weight", "head.weight"},
                (1e-3, 0.0): {"sampling_offsets.bias", "norm.weight", "norm.bias", "head.bias"},
            },
        ),
    ],
)
def test_rates_and_decay_go_by_what_a_parameter_is(small, changes, expected):
    assert groups(small, **changes) == expected


def test_rates_are_shares_of_each_group_s_peak(small):
    state = TrainingState(small.Mean(), small.schedule(offsets_rate=0.1))
    state.set_rates(0.5)
    assert sorted(state.rates) == pytest.approx([5e-5, 1e-4, 5e-4])


def test_the_model_is_as_before_after_a_look_at_its_average(small):
    model = small.Mean().train()
    state = TrainingState(model, small.schedule())
    first = model.head.bias.clone()
    with torch.no_grad():
        model.head.bias += 1.0
    present = model.head.bias.clone()
    with state.averaged() as averaged:
        assert not averaged.training
        assert torch.equal(averaged.head.bias, first)
    assert model.training
    assert torch.equal(model.head.bias, present)


def test_the_best_average_is_adopted_and_else_the_last(small):
    model = small.Mean()
    state = TrainingState(model, small.schedule())
    first = model.head.bias.clone()
    with torch.no_grad():
        state.average["head.bias"] += 1.0
    state.adopt()
    assert torch.equal(model.head.bias, first + 1.0)
    state.keep_best()
    with torch.no_grad():
        state.average["head.bias"] += 1.0
    state.adopt()
    assert torch.equal(model.head.bias, first + 1.0)


def test_a_restored_state_is_the_saved_one(small):
    states = [TrainingState(small.Mean(), small.schedule()) for _ in range(2)]
    for state in states[:1]:
        state.model(torch.rand(2, 3, 4, 4)).sum().backward()
        state.optimizer.step()
        state.update_average(0)
        state.keep_best()
        state.update_average(1)
    saved = {name: tensor.clone() for name, tensor in states[0].tensors().items()}
    states[1].restore(saved)
    again = states[1].tensors()
    assert saved.keys() == again.keys()
    assert any(name.startswith("best.") for name in saved)
    assert any(name.startswith("optimizer.head.weight.exp_avg") for name in saved)
    assert all(torch.equal(tensor, again[name]) for name, tensor in saved.items())
