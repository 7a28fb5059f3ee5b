"""Depthwise convolutions with quick gradients: PyTorch's numbers, whatever the stride and padding."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from engine.models.depthwise import DepthwiseConv2d, use_quick_gradients


def gradients(module: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    output = module(images)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    assert images.grad is not None
    return [output.detach(), images.grad, *(weight.grad for weight in module.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 16), (13, 18)])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_outputs_and_gradients_are_pytorchs(side: int, stride: int, size: tuple[int, int], padding: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, side, stride, padding, groups=6, bias=False)
    quick = copy.deepcopy(plain)
    assert use_quick_gradients(nn.Sequential(quick)) == 1
    images = torch.randn(2, 6, *size)
    for ours, theirs in zip(gradients(quick, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 16), (13, 18)])
def test_padding_that_is_wider_behind_is_tensorflows(side: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = Conv2dSame(6, 6, side, stride, groups=6, bias=False)
    quick = copy.deepcopy(plain)
    assert use_quick_gradients(nn.Sequential(quick)) == 1
    images = torch.randn(2, 6, *size)
    for ours, theirs in zip(gradients(quick, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(quick(images), plain(images), rtol=1e-4, atol=1e-5)


def test_tensorflows_padding_is_kept() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2,)).eval()
    quick = copy.deepcopy(plain)
    assert use_quick_gradients(quick) > 5
    images = torch.randn(1, 3, 96, 64)

    def loss(model: nn.Module) -> torch.Tensor:
        total: torch.Tensor = (model(images)[0] ** 2).sum()
        return total

    for model in (plain, quick):
        loss(model).backward()  # type: ignore[no-untyped-call]
    for (name, ours), theirs in zip(quick.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()), msg=name)


def test_only_what_is_needed_is_computed() -> None:
    module = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False).requires_grad_(False)
    use_quick_gradients(nn.Sequential(module))
    images = torch.randn(1, 4, 8, 8, requires_grad=True)
    module(images).sum().backward()
    assert images.grad is not None
    assert module.weight.grad is None


def test_bfloat16_stays_near_float32() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(8, 8, 5, 2, 2, groups=8, bias=False)
    exact = gradients(copy.deepcopy(module), images := torch.randn(2, 8, 20, 20))
    use_quick_gradients(nn.Sequential(module))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(module, images)
    for ours, theirs in zip(rounded, exact, strict=True):
        assert float((ours.float() - theirs).abs().max()) < 0.03 * float(theirs.abs().max())


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=4, bias=True),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, dilation=2),
        nn.Conv2d(4, 8, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 1, bias=False),
        nn.Conv2d(4, 4, 3, padding=3, groups=4, bias=False),
    ],
)
def test_other_convolutions_are_left(convolution: nn.Conv2d) -> None:
    assert use_quick_gradients(nn.Sequential(convolution)) == 0
    assert not isinstance(convolution, DepthwiseConv2d)
