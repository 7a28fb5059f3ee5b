"""Both architectures against the transformers library: the same weights and images give the same logits, boxes and losses."""

import pytest
import torch

from engine.models.detector import Detector, DetectorConfig
from engine.models.import_names import from_transformers, load_imported
from engine.models.losses import detection_loss
from engine.models.presets import DEFORMABLE_DETR, DETR
from engine.models.targets import Targets

transformers = pytest.importorskip("transformers", reason="the extra `oracle` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = 3
WIDTH = {"dimension": 256, "heads": 8, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2}
BACKBONE = {"backbone": "test_resnet", "backbone_weights": "none", "frozen_stages": 0, "image_size": 96}
FAITHFUL = WIDTH | BACKBONE | {"dropout": 0.1}
DEFORMABLE = DEFORMABLE_DETR | FAITHFUL | {"points": 4, "num_queries": 12, "proposal_candidates": 12, "extra_level": True}
DETR_12 = DETR | FAITHFUL | {"num_queries": 12, "patch_slots": 12}
WIDTH_THEIRS = {
    "d_model": 256,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "num_queries": 12,
    "num_labels": CLASSES,
}


def random_weights(module):
    """Weights everywhere, norms and frozen statistics included, so that no term is hidden by its initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() < 2 and name.endswith("weight"):
                tensor.uniform_(0.8, 1.2, generator=generator)
            else:
                spread = (2.0 / tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else 0.1
                tensor.normal_(0.0, spread, generator=generator)
    return module


def oracle(architecture, levels, **settings):
    """Their model. Not with auxiliary losses in DETR: the library (5.23) then feeds the normed answer to the next layer."""
    backbone = {"model_type": "timm_backbone", "backbone": "test_resnet", "use_pretrained_backbone": False, "out_indices": list(levels)}
    kinds = {
        "detr": (transformers.DetrConfig, transformers.DetrForObjectDetection),
        "deformable": (transformers.DeformableDetrConfig, transformers.DeformableDetrForObjectDetection),
    }
    config, model = kinds[architecture]
    settings = {"auxiliary_loss": architecture == "deformable", "backbone_config": backbone} | settings
    return random_weights(model(config(**WIDTH_THEIRS | settings))).eval()


def images():
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


CASES = {
    "detr C5": (DETR_12 | {"feature_levels": (4,)}, {}),
    "detr C4": (DETR_12 | {"feature_levels": (3,)}, {}),
    "deformable": (DEFORMABLE | {"queries": "learned", "refinement": False}, {"with_box_refine": False}),
    "deformable, refinement": (DEFORMABLE | {"queries": "learned"}, {"with_box_refine": True}),
    "deformable, refinement, two stages": (
        DEFORMABLE | {"queries": "coordinates"},
        {"with_box_refine": True, "two_stage": True, "two_stage_num_proposals": 12},
    ),
}


@pytest.fixture(scope="module", params=list(CASES))
def pair(request):
    """Our model, theirs with the same weights, and what was not taken over."""
    values, settings = CASES[request.param]
    ours = Detector(DetectorConfig(**values), CLASSES)
    theirs = oracle(ours.config.architecture, ours.config.feature_levels, **settings)
    imported = load_imported(ours, from_transformers(theirs.state_dict(), ours.config))
    return ours.eval(), theirs, imported


def both(pair, labels=None):
    ours, theirs, _ = pair
    found = ours(images())
    answer = theirs(pixel_values=(images() - ours.mean) / ours.std, labels=labels)
    return found, answer


def logits_of(layer):
    return layer.logits if layer.no_object is None else torch.cat([layer.logits, layer.no_object[..., None]], -1)


@torch.no_grad()
def test_same_weights_same_logits_and_boxes(pair):
    found, answer = both(pair)
    assert logits_of(found.layers[-1]).std() > 0.1
    assert found.layers[-1].boxes.std() > 0.05
    torch.testing.assert_close(logits_of(found.layers[-1]), answer.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.layers[-1].boxes, answer.pred_boxes, atol=1e-4, rtol=1e-4)


def test_every_weight_of_theirs_is_taken(pair):
    _, _, imported = pair
    assert imported.unused == ()
    assert all(name.startswith(("decoder.box_position.", "patch_queries.")) for name in imported.fresh)
    assert len(imported.taken) > 100


TARGETS = [
    Targets(torch.tensor([1, 0, 2]), torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.3, 0.2], [0.5, 0.2, 0.1, 0.1]])),
    Targets(torch.tensor([2]), torch.tensor([[0.6, 0.5, 0.4, 0.5]])),
]


@torch.no_grad()
def test_same_weights_same_losses(pair):
    """Their matcher's class cost has weight 1 in both architectures, so ours is told so; their two-stage loss is not computed."""
    ours, theirs, _ = pair
    config = ours.config
    if config.queries == "coordinates" and config.architecture == "deformable":
        pytest.skip("the library does not return the loss of the proposals")
    theirs.config.class_cost = 1 if config.architecture == "detr" else 2
    found, answer = both(pair, labels=[{"class_labels": each.labels, "boxes": each.boxes} for each in TARGETS])
    _, parts = detection_loss(found, TARGETS, config)
    last = len(found.layers) - 1
    for name, theirs_name in (("classes", "loss_ce"), ("distance", "loss_bbox"), ("overlap", "loss_giou")):
        assert parts[f"layer{last}_{name}"] == pytest.approx(float(answer.loss_dict[theirs_name]), rel=1e-4, abs=1e-5)
        if config.architecture == "deformable":
            assert parts[f"layer0_{name}"] == pytest.approx(float(answer.loss_dict[f"{theirs_name}_0"]), rel=1e-4, abs=1e-5)


@torch.no_grad()
def test_the_oracle_tells_a_changed_weight(pair):
    ours, _, _ = pair
    _, answer = both(pair)
    weight = ours.encoder.layers[0].feedforward[0].weight
    saved = weight.clone()
    weight.mul_(1.1)
    changed = ours(images())
    weight.copy_(saved)
    assert (logits_of(changed.layers[-1]) - answer.logits).abs().max() > 1e-3
