"""Losses, computed by hand, and finite where nothing is to be found."""

import math

import pytest
import torch

from engine.models.detector import Detector
from engine.models.losses import LossWeights, Targets, box_losses, detection_loss, varifocal
from engine.training.loop import seeded

NOTHING = Targets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
ONE = Targets(torch.tensor([1]), torch.tensor([[0.5, 0.5, 0.3, 0.2]]))


def test_varifocal_by_hand():
    """A positive of quality q at logit 0 costs q · ln 2; a negative there ¾ · ½² · ln 2."""
    assert varifocal(torch.zeros(1), torch.tensor([0.6])).item() == pytest.approx(0.6 * math.log(2))
    assert varifocal(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(0.75 * 0.25 * math.log(2))


def test_varifocal_is_least_where_score_and_quality_agree():
    logits = torch.linspace(-4, 4, 81)
    losses = torch.stack([varifocal(logit[None], torch.tensor([0.7])) for logit in logits])
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(0.7, abs=0.02)


def test_easy_negatives_weigh_little():
    sure, unsure = (varifocal(torch.tensor([logit]), torch.zeros(1)) for logit in (-5.0, 0.0))
    assert sure < unsure / 1000


@pytest.mark.parametrize(
    ("box", "distance", "overlap"),
    [
        ([0.5, 0.5, 0.2, 0.2], 0.0, 0.0),
        ([0.5, 0.5, 0.2, 0.1], 0.1, 0.5),
        ([0.7, 0.5, 0.2, 0.2], 0.2, 1.0),
        ([0.9, 0.5, 0.2, 0.2], 0.4, 1 + 1 / 3),
    ],
)
def test_box_losses_by_hand(box, distance, overlap):
    boxes, target = torch.tensor([box]), torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    assert [part.item() for part in box_losses(boxes, target)] == pytest.approx([distance, overlap], abs=1e-5)
    halved = box_losses(boxes, target, torch.tensor([0.5]))
    assert [part.item() for part in halved] == pytest.approx([distance / 2, overlap / 2], abs=1e-5)


@pytest.fixture
def detector(squares):
    with seeded(0):
        return Detector(squares.TINY, 2).train()


def images(count):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("targets", [[NOTHING, NOTHING], [NOTHING, ONE], [ONE, ONE]], ids=["none", "one", "both"])
def test_loss_and_gradients_are_finite_whatever_is_there(detector, targets):
    loss, parts = detection_loss(detector(images(2)), targets, detector.proposals)
    loss.backward()
    gradients = [weight.grad for weight in detector.parameters() if weight.grad is not None]
    assert math.isfinite(loss.item())
    assert all(math.isfinite(part) for part in parts.values())
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert detector.proposals.classes.weight.grad.abs().sum() > 0


def test_boxes_learn_nothing_where_nothing_is_there(detector):
    detection_loss(detector(images(2)), [NOTHING, NOTHING], detector.proposals)[0].backward()
    assert all(weight.grad is None or weight.grad.abs().sum() == 0 for weight in detector.proposals.boxes.parameters())


def test_the_loss_is_the_weighted_sum_of_its_parts(detector):
    weights = LossWeights(classes=2.0, distance=3.0, overlap=5.0, dense=0.5)
    loss, parts = detection_loss(detector(images(2)), [ONE, NOTHING], detector.proposals, weights)
    sets = {name.rsplit("_", 1)[0] for name in parts}
    assert sets == {"dense", "layer0", "layer1"}
    shares = {"dense": 0.5, "layer0": 1.0, "layer1": 1.0}
    expected = sum(shares[name] * sum(getattr(weights, part) * parts[f"{name}_{part}"] for part in weights._fields[:3]) for name in sets)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_more_objects_than_queries_are_no_error(detector):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(30, 4, generator=generator) * 0.2 + 0.3
    loss, _ = detection_loss(detector(images(1)), [Targets(torch.zeros(30, dtype=torch.long), boxes)], detector.proposals)
    assert math.isfinite(loss.item())


def test_a_perfect_answer_costs_next_to_nothing(detector):
    """Boxes on the object, its score as sure as its IoU: all that is left is what the other queries are unsure about."""
    found = detector(images(1))
    exact = ONE.boxes.expand(1, found.layers[0].boxes.shape[1], 4)
    logits = torch.full_like(found.layers[0].logits, -20.0)
    logits[0, 3, 1] = 20.0
    layers = [layer._replace(logits=logits, boxes=exact) for layer in found.layers]
    _, parts = detection_loss(found._replace(layers=layers), [ONE], detector.proposals)
    assert [value for name, value in parts.items() if name.startswith("layer")] == pytest.approx([0.0] * 6, abs=1e-4)
