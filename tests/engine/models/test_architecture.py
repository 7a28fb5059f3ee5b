"""Every lever: what fits together, and that each combination trains and predicts."""

import math

import pytest
import torch

from engine.errors import UsageError
from engine.inference.predict import predict_batch
from engine.models.architecture import DetectorConfig
from engine.models.detector import Detector
from engine.models.presets import DEFORMABLE_DETR, DETR
from engine.stages.pretrain import PretrainConfig
from engine.training.data import Sample
from engine.training.detection import DetectionTask
from engine.training.loop import seeded

ONE_TO_ONE = {"pyramid": False, "region_features": 0, "region_stage": 0, "supervision": "one-to-one"}
LEVERS = {
    "default": {},
    "detr C5": DETR,
    "detr C4, pre-norm, dropout": DETR | {"feature_levels": (3,), "decoder_norm": "pre", "dropout": 0.1},
    "detr, post-norm": DETR | {"encoder_norm": "post"},
    "norms the other way": {"encoder_norm": "post", "decoder_norm": "pre"},
    "dropout": {"dropout": 0.2},
    "extra level, paper's positions": {"extra_level": True, "position": "paper"},
    "no refinement": {"refinement": False},
    "look forward twice": {"look_forward_twice": True},
    "logit moves": {"box_moves": "logit"},
    "not residual": {"residual_classes": False},
    "no region stage": {"region_stage": 0, "region_layers": 1},
    "three looks, no truth, boxes by overlap": {
        "region_looks": 3,
        "region_truth": 0,
        "region_boxes": "overlap",
        "proposal_boxes": "overlap",
    },
    "mixed": {"queries": "mixed"},
    "denoising": {"denoising_groups": 2},
    "denoising, mixed, focal, not residual": {"denoising_groups": 1, "queries": "mixed", "class_loss": "focal", "residual_classes": False},
    "quality": {"class_loss": "quality"},
    "linear head": {"proposal_head": "linear"},
    "one-to-one, residual": ONE_TO_ONE | {"residual_classes": True, "proposal_loss": "dense", "class_loss": "varifocal"},
    "no pyramid": {"pyramid": False},
    "pyramid with norms": {"pyramid_norms": True},
    "no regions": {"region_features": 0, "region_stage": 0},
    "regions in every layer, mixed twice": {"region_layers": 5, "region_hidden": 16},
    "task-aligned proposals": {"proposal_loss": "dense"},
    "varifocal": {"class_loss": "varifocal"},
    "one-to-one proposals": {"proposal_loss": "matched"},
    "learned": DEFORMABLE_DETR,
    "learned, no refinement": DEFORMABLE_DETR | {"refinement": False},
    "coordinates": DEFORMABLE_DETR | {"queries": "coordinates"},
}


def batch(labels=((0, 1), ())):
    images = torch.randint(0, 256, (len(labels), 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    corners = torch.tensor([[4.0, 4.0, 20.0, 24.0], [30.0, 30.0, 60.0, 50.0]])
    return [Sample(image, corners[: len(each)], torch.tensor(each, dtype=torch.long)) for image, each in zip(images, labels, strict=True)]


def make(squares, **changes):
    values = squares.TINY.model_dump() | changes
    if values["architecture"] == "detr":
        del values["region_stage"]
    with seeded(0):
        return Detector(DetectorConfig(**values), 2)


@pytest.mark.parametrize("changes", LEVERS.values(), ids=LEVERS)
def test_every_lever_trains_and_predicts(squares, changes):
    model = make(squares, **changes).train()
    loss, parts = DetectionTask(model).loss(batch(), torch.Generator().manual_seed(0))
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(math.isfinite(part) for part in parts.values())
    said = {name.rsplit("_", 1)[0] for name in parts}
    expected = {"layer0", "layer1"}
    if model.config.two_stage:
        if model.config.region_stage:
            expected |= {f"regions{look}" for look in range(model.config.region_looks)}
        expected.add("proposals" if changes.get("proposal_loss") == "matched" else "dense")
    assert said == expected | ({"denoising0", "denoising1"} if changes.get("denoising_groups") else set())
    without = sorted(name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None)
    unused: tuple[str, ...] = ("patch_queries.",)
    if model.config.architecture != "detr":
        unused = (*unused, "decoder.box_position.")
    if model.config.feature_levels == (3,):
        unused = (*unused, "backbone.")
    assert all(name.startswith(unused) for name in without)
    assert all(weight.grad is None or bool(torch.isfinite(weight.grad).all()) for weight in model.parameters())
    tiles = torch.stack([sample.image for sample in batch()]).float() / 255
    for tile in predict_batch(model.eval(), tiles, score_threshold=0.0, iou_threshold=1.0):
        assert tile.class_scores.shape[1] == 2
        assert len(tile.boxes) <= 20
        assert bool(((tile.class_scores >= 0) & (tile.class_scores <= 1)).all())


def test_dropout_depends_on_the_step_alone(squares):
    model = make(squares, dropout=0.3).train()
    losses = []
    for seed in (0, 0, 1):
        torch.rand(3)
        losses.append(DetectionTask(model).loss(batch(), torch.Generator().manual_seed(seed))[0].item())
    assert losses[0] == losses[1] != losses[2]


def test_looking_forward_twice_changes_gradients_alone(squares):
    found = []
    for twice in (False, True):
        model = make(squares, look_forward_twice=twice, supervision="one-to-one")
        loss, _ = DetectionTask(model).loss(batch(), torch.Generator().manual_seed(0))
        loss.backward()
        found.append((loss.item(), model.decoder.box_heads[0][-1].weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert not torch.allclose(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (DETR | {"feature_levels": (3, 4)}, r"feature_levels = \(3, 4\): detr has one"),
        ({"feature_levels": (0, 1)}, "feature_levels start at 0.*set region_fine to false"),
        (DETR | {"num_queries": 50}, "patch_slots = 100 must equal num_queries = 50"),
        (DETR | {"denoising_groups": 3}, "denoising_groups = 3 does not concern detr"),
        ({"queries": "learned", "region_stage": 0}, "set residual_classes to false"),
        ({"queries": "learned"}, "set box_moves to 'logit'"),
        ({"queries": "learned", "box_moves": "logit"}, "set region_features to 0"),
        (
            ONE_TO_ONE | {"queries": "learned", "box_moves": "logit", "residual_classes": False, "supervision": "one-to-many"},
            "set supervision to 'one-to-one'",
        ),
        ({"region_stage": 64, "region_features": 0}, "set region_stage to 0"),
        ({"queries": "coordinates"}, "set proposal_loss to 'matched'"),
        (DEFORMABLE_DETR | {"queries": "coordinates", "denoising_groups": 1}, "needs queries = 'proposals' or 'mixed'"),
        ({"class_loss": "hinge"}, "class_loss"),
    ],
)
def test_levers_that_do_not_fit_are_refused_by_name(values, message):
    with pytest.raises(UsageError, match=message):
        DetectorConfig.from_mapping(values)


def test_queries_of_detr_are_as_many_as_its_slots():
    assert DetectorConfig.from_mapping(DETR | {"patch_slots": 40}).num_queries == 40
    assert DetectorConfig.from_mapping(DETR).num_queries == 100


def test_an_architecture_that_is_no_mapping_is_refused_and_a_finished_one_taken():
    assert PretrainConfig(detector=DetectorConfig(num_queries=30)).detector.num_queries == 30
    with pytest.raises(UsageError, match="detector"):
        PretrainConfig.from_mapping({"detector": "nano"})
