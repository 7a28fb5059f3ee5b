"""Folded batch norms: the network's numbers and gradients, under the names that its tensors had."""

import copy

import pytest
import timm
import torch
from torch import nn

from engine.models.depthwise import use_quick_gradients
from engine.models.frozen_norms import fold_frozen_norms, folded_once


def network(name, levels=(1, 2)):
    """A network whose batch norms have something to do."""
    torch.manual_seed(0)
    body = timm.create_model(name, pretrained=False, features_only=True, out_indices=levels).eval()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, (low, high) in zip(
                (module.weight, module.bias, module.running_mean, module.running_var),
                ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 2.0)),
                strict=True,
            ):
                nn.init.uniform_(tensor, low, high)
            module.requires_grad_(False)
    return body


def loss_and_gradients(body):
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    loss = sum((level * torch.linspace(-1, 1, level.numel()).view_as(level)).sum() for level in body(images))
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in body.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("quick", [False, True])
def test_maps_gradients_and_names_are_the_networks(name, quick):
    plain = network(name)
    folded = copy.deepcopy(plain)
    if quick:
        use_quick_gradients(folded)
    assert fold_frozen_norms(folded) == sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert [(key, tensor.shape) for key, tensor in folded.state_dict().items()] == [
        (key, tensor.shape) for key, tensor in plain.state_dict().items()
    ]
    (expected, wanted), (found, given) = loss_and_gradients(plain), loss_and_gradients(folded)
    assert float(found) == pytest.approx(float(expected), rel=1e-3)
    assert wanted.keys() == given.keys()
    for key, gradient in wanted.items():
        assert torch.allclose(given[key], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max())), key


@torch.no_grad()
def test_weights_and_statistics_that_come_later_count():
    folded, other = network("test_resnet"), network("test_resnet")
    fold_frozen_norms(folded)
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(0.5)
    folded.load_state_dict(other.state_dict())
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(folded(images), other(images), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@torch.no_grad()
def test_a_copy_reads_its_own_norms():
    folded = network("test_resnet")
    fold_frozen_norms(folded)
    twin = copy.deepcopy(folded)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = twin(images)[0]
    for module in folded.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.add_(1.0)
    assert torch.equal(twin(images)[0], before)
    assert not torch.allclose(folded(images)[0], before)


class ReadTwice(nn.Module):
    """What the convolution computed joins what its norm makes of it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, images):
        computed = self.conv(images)
        return [computed + self.norm(computed)]


@torch.no_grad()
def test_where_somebody_else_reads_the_convolution_everything_stays():
    body = ReadTwice().train()
    images = torch.rand(1, 3, 16, 16)
    body.norm.eval()
    before = body(images)[0]
    assert fold_frozen_norms(body) == 0
    assert torch.equal(body(images)[0], before)
    assert body.training
    assert not body.norm.training


@pytest.mark.parametrize("body", [nn.Sequential(nn.Linear(5, 5)), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))])
def test_nothing_is_folded_where_nothing_fits(body):
    assert fold_frozen_norms(body) == 0


@torch.no_grad()
def test_kernels_are_folded_once_until_the_end_and_anew_after_it():
    folded = network("test_resnet")
    fold_frozen_norms(folded)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    before = folded(images)[0]
    with folded_once(folded):
        assert torch.equal(folded(images)[0], before)
        for module in folded.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(2)
        assert torch.equal(folded(images)[0], before)
    assert not torch.allclose(folded(images)[0], before)
