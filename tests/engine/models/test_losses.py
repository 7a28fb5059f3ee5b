"""Losses, computed by hand, and finite where nothing is to be found."""

import math

import pytest
import torch

from engine.models.architecture import DetectorConfig
from engine.models.denoising import NoisedObjects
from engine.models.detector import Denoised, Detections, Detector, Layer
from engine.models.losses import (
    LossWeights,
    Targets,
    box_losses,
    class_loss,
    detection_loss,
    loss_weights,
    moves_loss,
    relative_loss,
    softmax_loss,
    varifocal,
)
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


@pytest.mark.parametrize(
    ("moved", "loss"),
    [
        ([0.5, 0.5, 0.2, 0.4], 0.0),
        ([0.5, 0.52, 0.2, 0.4], 0.5 - 1 / 18),
        ([0.52, 0.5, 0.2, 0.4], 1 - 1 / 18),
        ([0.501, 0.5, 0.2, 0.4], 0.05**2 / 2 * 9),
        ([0.5, 0.5, 0.2 * math.e, 0.4], 5 - 1 / 18),
    ],
)
def test_moves_loss_by_hand(moved, loss):
    """Half a unit too far costs ½ − 1⁄18, a unit 1 − 1⁄18, and less than a ninth nine times half its square."""
    start, wanted = torch.tensor([[0.4, 0.6, 0.2, 0.4]]), torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    assert moves_loss(torch.tensor([moved]), start, wanted).item() == pytest.approx(loss, abs=2e-4)


def test_relative_loss_by_hand():
    """Shares of the object's sides: 0.04 : 0.2 across, 0.1 : 0.4 in height; a coordinate that is off by more than two sides costs 2."""
    boxes = torch.tensor([[0.54, 0.5, 0.2, 0.5], [0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 1.2, 0.4]])
    wanted = torch.tensor([[0.5, 0.5, 0.2, 0.4]]).expand(3, 4)
    assert relative_loss(boxes, wanted, torch.tensor([1.0, 1.0, 0.0])).item() == pytest.approx(0.45)
    assert relative_loss(boxes, wanted, torch.tensor([2.0, 1.0, 0.5])).item() == pytest.approx(0.9 + 1.0)


@pytest.fixture
def detector(squares):
    with seeded(0):
        return Detector(squares.TINY, 2).train()


def images(count):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("targets", [[NOTHING, NOTHING], [NOTHING, ONE], [ONE, ONE]], ids=["none", "one", "both"])
def test_loss_and_gradients_are_finite_whatever_is_there(detector, targets):
    loss, parts = detection_loss(detector(images(2)), targets, detector.config)
    loss.backward()
    gradients = [weight.grad for weight in detector.parameters() if weight.grad is not None]
    assert math.isfinite(loss.item())
    assert all(math.isfinite(part) for part in parts.values())
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert detector.proposals.classes.weight.grad.abs().sum() > 0


def test_boxes_learn_nothing_where_nothing_is_there(detector):
    detection_loss(detector(images(2)), [NOTHING, NOTHING], detector.config)[0].backward()
    assert all(weight.grad is None or weight.grad.abs().sum() == 0 for weight in detector.proposals.boxes.parameters())


def test_the_loss_is_the_weighted_sum_of_its_parts(detector):
    weights = LossWeights(classes=2.0, distance=3.0, overlap=5.0, relative=7.0, moves=11.0, dense=0.5)
    config = detector.config.model_copy(update={"region_weight": 0.3, "decoder_weight": 0.2})
    loss, parts = detection_loss(detector(images(2)), [ONE, NOTHING], config, weights)
    shares = {"dense": 0.5, "regions0": 0.3, "regions1": 0.3, "layer0": 0.2, "layer1": 0.2}
    assert {name.rsplit("_", 1)[0] for name in parts} == set(shares)
    named = [(*name.rsplit("_", 1), value) for name, value in parts.items()]
    assert loss.item() == pytest.approx(sum(shares[part] * getattr(weights, kind) * value for part, kind, value in named), rel=1e-5)


def test_more_objects_than_queries_are_no_error(detector):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(30, 4, generator=generator) * 0.2 + 0.3
    loss, _ = detection_loss(detector(images(1)), [Targets(torch.zeros(30, dtype=torch.long), boxes)], detector.config)
    assert math.isfinite(loss.item())


def test_a_perfect_answer_costs_next_to_nothing(detector):
    """Boxes on the object, its score as sure as its IoU: all that is left is what the other queries are unsure about."""
    found = detector(images(1))
    exact = ONE.boxes.expand(1, found.layers[0].boxes.shape[1], 4)
    logits = torch.full_like(found.layers[0].logits, -20.0)
    logits[0, 3, 1] = 20.0
    layers = [layer._replace(logits=logits, boxes=exact) for layer in found.layers]
    config = detector.config.model_copy(update={"supervision": "one-to-one"})
    _, parts = detection_loss(found._replace(layers=layers), [ONE], config)
    assert [value for name, value in parts.items() if name.startswith("layer")] == pytest.approx([0.0] * 6, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "positive", "negative"),
    [("varifocal", 0.6, 0.75 * 0.25), ("focal", 0.25 * 0.25, 0.75 * 0.25), ("quality", 1.0, 1.0), ("presence", 1.0, 1.0)],
)
def test_class_losses_by_hand(kind, positive, negative):
    """At logit 0 every cross-entropy is ln 2; what differs are the weights. Focal takes any quality for 1."""
    assert class_loss(kind, torch.zeros(1), torch.tensor([0.6])).item() == pytest.approx(positive * math.log(2))
    assert class_loss(kind, torch.zeros(1), torch.zeros(1)).item() == pytest.approx(negative * math.log(2))


def test_one_to_many_by_hand():
    """Two queries start on the object, one away from it: the first two answer for it, and the sums are shared by two."""
    moved = ONE.boxes + torch.tensor([[0.05, 0.0, 0.0, 0.0]])
    away = torch.tensor([[0.1, 0.1, 0.1, 0.1]])
    starts = torch.cat([ONE.boxes, moved, away])[None]
    layer = Layer(torch.zeros(1, 3, 2), torch.cat([ONE.boxes, moved, ONE.boxes])[None], starts=starts)
    _, parts = detection_loss(Detections([layer], None, None), [ONE], DetectorConfig())
    assert parts["layer0_classes"] == pytest.approx(6 * math.log(2) / 2, abs=1e-5)
    assert parts["layer0_distance"] == pytest.approx(0.05 / 2, abs=1e-5)
    assert parts["layer0_overlap"] == pytest.approx((1 - 0.25 / 0.35) / 2, abs=1e-5)


def test_one_to_many_is_indifferent_to_what_the_decoder_answers():
    """Who answers for an object is known before the decoder: by the boxes it started from."""
    starts = torch.cat([ONE.boxes, torch.tensor([[0.1, 0.1, 0.1, 0.1]])])[None]
    answers = [Layer(torch.zeros(1, 2, 2), boxes[None], starts=starts) for boxes in (starts[0], starts[0].flip(0))]
    distances = [detection_loss(Detections([layer], None, None), [ONE], DetectorConfig())[1]["layer0_distance"] for layer in answers]
    assert distances[0] == 0
    assert distances[1] > 0.1


def test_softmax_loss_by_hand():
    """Two classes and no object, one query sure of class 0 with odds 2 : 1 : 1, one without an opinion that should say nothing."""
    logits = torch.tensor([[[math.log(2), 0.0], [0.0, 0.0]]])
    loss = softmax_loss(logits, torch.zeros(1, 2), torch.tensor([[0, 2]]), 0.1)
    assert loss.item() == pytest.approx((math.log(2) + 0.1 * math.log(3)) / 1.1)


def test_focal_counts_twice_as_in_the_paper():
    assert loss_weights(DetectorConfig(class_loss="focal")).classes == 2
    assert loss_weights(DetectorConfig()) == loss_weights(DetectorConfig(architecture="detr", feature_levels=(4,))) == LossWeights()


def test_detr_matches_by_probability_and_learns_the_rest_as_no_object():
    """Query 1 lies on the object and is matched; with exact boxes only the softmax is left: ln 3 for the one, 0.1 ln 3 for the other."""
    config = DetectorConfig(architecture="detr", feature_levels=(4,))
    boxes = torch.cat([torch.tensor([[0.1, 0.1, 0.1, 0.1]]), ONE.boxes])[None]
    layer = Layer(torch.zeros(1, 2, 2), boxes, torch.zeros(1, 2))
    loss, parts = detection_loss(Detections([layer], None, None), [ONE], config)
    assert parts == pytest.approx({"layer0_classes": math.log(3), "layer0_distance": 0.0, "layer0_overlap": 0.0}, abs=1e-5)
    assert loss.item() == pytest.approx(math.log(3), abs=1e-5)


def test_denoising_slots_know_their_object():
    """One group of a positive and a negative; the negative lies nearer to the object and still learns "nothing"."""
    moved = ONE.boxes + torch.tensor([[0.0, 0.0, 0.1, 0.0]])
    noised = NoisedObjects(torch.zeros(1, 2, dtype=torch.long), ONE.boxes[None], torch.tensor([[0, 0]]), torch.tensor([True, False]), 1)
    layer = Layer(torch.zeros(1, 2, 2), torch.stack([moved, ONE.boxes], 1))
    answer = Layer(torch.full((1, 1, 2), -30.0), ONE.boxes[None])
    found = Detections([answer], None, None, Denoised([layer], noised))
    _, parts = detection_loss(found, [ONE], DetectorConfig(denoising_groups=1, class_loss="quality", supervision="one-to-one"))
    assert parts["denoising0_distance"] == pytest.approx(0.1, abs=1e-5)
    assert parts["denoising0_overlap"] == pytest.approx(1 - 0.3 / 0.4, abs=1e-5)
    assert parts["denoising0_classes"] == pytest.approx(4 * math.log(2), abs=1e-5)


def test_slots_without_an_object_count_for_nothing():
    noised = NoisedObjects(
        torch.zeros(2, 2, dtype=torch.long), torch.full((2, 2, 4), 0.5), torch.tensor([[0, 0], [-1, -1]]), torch.tensor([True, False]), 1
    )
    answer = Layer(torch.full((2, 1, 2), -30.0), ONE.boxes.expand(2, 1, 4))
    config = DetectorConfig(denoising_groups=1, supervision="one-to-one")
    losses = []
    for empty in (-5.0, 5.0):
        logits = torch.zeros(2, 2, 2)
        logits[1] = empty
        denoised = Denoised([Layer(logits, torch.full((2, 2, 4), 0.5))], noised)
        losses.append(detection_loss(Detections([answer], None, None, denoised), [ONE, NOTHING], config)[0].item())
    assert losses[0] == losses[1]


def test_a_second_look_asks_for_a_better_fit():
    """A box with an IoU of 0.55 answers for the object at the first look, which asks for 0.5, and not at the second."""
    start = ONE.boxes * torch.tensor([1.0, 1.0, 0.55, 1.0])
    look = Layer(torch.zeros(1, 1, 2), ONE.boxes[None] * 1.05, starts=start[None])
    config = DetectorConfig(region_stage=64, region_looks=2)
    _, parts = detection_loss(Detections([look], None, None, regions=(look, look)), [ONE], config)
    assert parts["regions0_moves"] > 0.1
    assert parts["regions1_moves"] == 0
    assert parts["regions1_classes"] == pytest.approx(2 * math.log(2), abs=1e-5)


@pytest.mark.parametrize("kind", ["varifocal", "focal", "quality", "presence"])
def test_where_not_all_objects_are_known_negatives_count_less(kind):
    logits, quality = torch.tensor([[[0.3], [-0.4]], [[0.3], [-0.4]]]), torch.tensor([[[0.8], [0.0]], [[0.0], [0.0]]])
    each = torch.tensor([[class_loss(kind, logits[b, q], quality[b, q]) for q in range(2)] for b in range(2)])
    found = class_loss(kind, logits, quality, torch.tensor([0.25, 0.0])[:, None, None])
    assert found.item() == pytest.approx((each[0, 0] + 0.25 * each[0, 1]).item(), rel=1e-5)


def test_no_object_counts_less_in_detr_where_not_all_objects_are_known():
    logits, no_object = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.zeros(1, 2)
    labels = torch.tensor([[0, 2]])
    in_full = softmax_loss(logits, no_object, labels, 0.1)
    assert softmax_loss(logits, no_object, labels, 0.1, torch.ones(1, 1, 1)).item() == pytest.approx(in_full.item(), rel=1e-5)
    first = torch.nn.functional.cross_entropy(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
    assert softmax_loss(logits, no_object, labels, 0.1, torch.zeros(1, 1, 1)).item() == pytest.approx(first.item(), rel=1e-5)


@pytest.mark.parametrize("architecture", ["deformable", "detr"])
def test_absence_of_an_image_reaches_every_loss_of_classes(squares, architecture):
    detr = {"architecture": "detr", "feature_levels": (4,), "feedforward": 64}
    values = squares.TINY.model_dump(include={"backbone", "backbone_weights", "frozen_stages", "dimension", "heads", "image_size"})
    config = squares.TINY if architecture == "deformable" else squares.TINY.from_mapping(values | detr)
    with seeded(0):
        model = Detector(config, 2).eval()
    detections = model(images(1))
    parts = [detection_loss(detections, [ONE._replace(absence=absence)], config)[1] for absence in (1.0, 0.5)]
    classes = [name for name in parts[0] if name.endswith("classes")]
    assert classes
    assert all(parts[1][name] != parts[0][name] for name in classes)
    assert all(parts[1][name] == parts[0][name] for name in parts[0] if name not in classes)
