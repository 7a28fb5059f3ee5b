"""Tasks side by side: weights that fall, a sum of losses, and a run that goes on where it was."""

import pytest
import torch
from torch import nn

from engine.errors import Cancelled, UsageError
from engine.progress import silent
from engine.training.checkpoint import CheckpointStore
from engine.training.joint import JointTask, WeightConfig, Weighted, weight_at
from engine.training.loop import train


class Pull:
    """Pulls the shared weight towards a number."""

    classes = None

    def __init__(self, shared, towards):
        self.model, self._towards, self.asked = shared, towards, []

    def loss(self, batch, generator, done=0.0):
        self.asked.append(done)
        noise = torch.rand(1, generator=generator).item()
        value = (self.model.weight - self._towards).square().sum() * (1 + 0 * noise)
        return value, {"distance": float(value.detach())}


def shared():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(1, 1, bias=False)


@pytest.mark.parametrize(("curve", "expected"), [("constant", [2.0, 2.0, 2.0]), ("linear", [2.0, 1.25, 0.5]), ("cosine", [2.0, 1.25, 0.5])])
def test_weights_go_from_start_to_end(curve, expected):
    config = WeightConfig(start=2.0, end=0.5, curve=curve)
    assert [weight_at(config, done) for done in (0.0, 0.5, 1.0)] == pytest.approx(expected)
    assert weight_at(config, 0.25) == pytest.approx({"constant": 2.0, "linear": 1.625, "cosine": 0.5 + 1.5 * 0.85355}[curve], abs=1e-4)


@pytest.mark.parametrize("values", [{"start": 0}, {"start": 0, "end": 0, "curve": "linear"}])
def test_a_weight_that_is_always_nothing_is_refused(values):
    with pytest.raises(UsageError, match="leave the task out"):
        WeightConfig.from_mapping(values)


def test_the_loss_is_the_weighted_sum():
    layer = shared()
    one, two = Pull(layer, 1.0), Pull(layer, -1.0)
    joint = JointTask({"one": Weighted(one, WeightConfig(start=1.0)), "two": Weighted(two, WeightConfig(start=3.0, curve="linear"))})
    loss, log = joint.loss([], torch.Generator(), 0.5)
    assert loss.item() == pytest.approx(log["one.distance"] + 1.5 * log["two.distance"])
    assert log["two.weight"] == 1.5
    assert one.asked == two.asked == [0.5]


def test_what_counts_nothing_is_not_computed():
    layer = shared()
    two = Pull(layer, -1.0)
    joint = JointTask({"one": Weighted(Pull(layer, 1.0), WeightConfig()), "two": Weighted(two, WeightConfig(curve="linear"))})
    assert joint.loss([], torch.Generator(), 1.0)[1].keys() == {"one.distance", "one.weight"}
    assert not two.asked


def test_a_run_begins_where_no_weight_counts_yet():
    model = shared()
    rising = WeightConfig(start=0.0, end=1.0, curve="linear")
    task = JointTask({"a": Weighted(Pull(model, 1.0), rising), "b": Weighted(Pull(model, 2.0), rising)})
    loss, parts = task.loss([], torch.Generator(), 0.0)
    assert float(loss.detach()) == 0.0
    assert parts["a.weight"] == 0.0
    loss.backward()
    assert float(task.loss([], torch.Generator(), 0.5)[0].detach()) > 0


def test_shared_weights_are_trained_once_and_a_run_goes_on(fake, tmp_path):
    told = fake("training")

    def run(checkpoints=None, progress=silent):
        layer = shared()
        tasks = {"one": Weighted(Pull(layer, 1.0), WeightConfig()), "two": Weighted(Pull(layer, -1.0), WeightConfig(curve="cosine"))}
        joint = JointTask(tasks)
        assert len(list(joint.model.parameters())) == 1
        train(joint, told.tiles(6), told.schedule(), checkpoints=checkpoints, progress=progress)
        return layer.weight.item()

    with pytest.raises(Cancelled):
        run(CheckpointStore(tmp_path), told.StopAt(20))
    assert run(CheckpointStore(tmp_path)) == run()
