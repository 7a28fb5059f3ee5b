"""Frozen batch norms inside the convolutions before them: the same numbers, without a pass over the maps of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.models.depthwise import DepthwiseConv2d

__all__ = ["fold_frozen_norms", "folded_once"]

_TRIAL_SIDE = 64
_TOLERANCE = 1e-3


class _Folded(nn.Conv2d):
    """A convolution that computes what its frozen batch norm would make of it; kernel and statistics stay where they are."""

    _norms: tuple[_BatchNorm]
    """Not a module of this one: the norm keeps its own place and name."""
    _constant: tuple[Tensor, Tensor] | None = None

    def _folded(self) -> tuple[Tensor, Tensor]:
        if self._constant is not None:
            return self._constant
        norm = self._norms[0]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


@contextmanager
def folded_once(module: nn.Module) -> Iterator[None]:
    """Inside, the folded kernels of ``module`` are constants, computed once; its weights must stay as they are."""
    folded = [each for each in module.modules() if isinstance(each, _Folded)]
    try:
        for each in folded:
            weight, bias = each._folded()
            each._constant = weight.detach(), bias.detach()
        yield
    finally:
        for each in folded:
            each._constant = None


class _FoldedConv2d(_Folded):
    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(images, *self._folded())
        return output


class _FoldedConv2dSame(_Folded):
    def forward(self, images: Tensor) -> Tensor:
        weight, bias = self._folded()
        output: Tensor = conv2d_same(images, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return output


class _FoldedDepthwise(_Folded, DepthwiseConv2d):
    def forward(self, images: Tensor) -> Tensor:
        return self.convolve(images, *self._folded())


class _EmptyNorm(nn.BatchNorm2d):
    def forward(self, images: Tensor) -> Tensor:
        return images


class _EmptyNormAct(BatchNormAct2d):  # type: ignore[misc]
    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(images))
        return output


_FOLDED: dict[type[nn.Module], type[_Folded]] = {
    nn.Conv2d: _FoldedConv2d,
    Conv2dSame: _FoldedConv2dSame,
    DepthwiseConv2d: _FoldedDepthwise,
}
_EMPTY: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: _EmptyNorm, BatchNormAct2d: _EmptyNormAct}


def _maps(body: nn.Module, images: Tensor) -> list[Tensor]:
    maps: list[Tensor] = body(images)
    return maps


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * one.abs().max())


def _pairs(body: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, _BatchNorm]]:
    """Convolutions without a bias and the batch norm that reads what each has just computed, each of them used once."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    calls: list[nn.Module] = []
    found: list[tuple[nn.Conv2d, _BatchNorm]] = []

    def computed(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        calls.append(module)
        made[id(output)] = (module, output)

    def reads(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        calls.append(module)
        if id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], module))

    hooks = [module.register_forward_hook(computed) for module in body.modules() if type(module) in _FOLDED]
    hooks += [module.register_forward_pre_hook(reads) for module in body.modules() if type(module) in _EMPTY]
    try:
        _maps(body, images)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in found if conv.bias is None and norm.affine and calls.count(conv) == calls.count(norm) == 1]


@contextmanager
def _stirred(body: nn.Module) -> Iterator[None]:
    """Evaluation mode, and batch norms that change what they read; all as before afterwards."""
    training = [module for module in body.modules() if module.training]
    held = [
        (tensor, tensor.clone())
        for norm in body.modules()
        if isinstance(norm, _BatchNorm)
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        if tensor is not None
    ]
    draw = torch.Generator().manual_seed(1)
    body.eval()
    try:
        for tensor, _ in held:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
        yield
    finally:
        for tensor, before in held:
            tensor.copy_(before)
        for module in training:
            module.training = True


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    module.__class__ = kind


@torch.no_grad()
def fold_frozen_norms(body: nn.Module) -> int:
    """Let convolutions compute the frozen batch norms behind them.

    Which norm follows which convolution is seen on a picture of noise; if the maps of the folded network then differ, as where somebody
    else reads what a convolution computed, everything is put back. Names and values of all tensors stay.

    Args:
        body: on the CPU; takes images (B, 3, H, W) and returns maps; its batch norms must stay in evaluation mode from here on.

    Returns:
        How many norms were folded; 0 too where the network does not take small pictures.
    """
    images = torch.rand(1, 3, _TRIAL_SIDE, _TRIAL_SIDE, generator=torch.Generator().manual_seed(0))
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    with _stirred(body):
        try:
            before = _maps(body, images)
            for conv, norm in _pairs(body, images):
                changed += [(conv, type(conv)), (norm, type(norm))]
                object.__setattr__(conv, "_norms", (norm,))
                _become(conv, _FOLDED[type(conv)])
                _become(norm, _EMPTY[type(norm)])
            same = all(_same(one, other) for one, other in zip(before, _maps(body, images), strict=True))
        except (RuntimeError, AssertionError, ValueError):
            same = False
    if not same:
        for module, kind in changed:
            _become(module, kind)
    return len(changed) // 2 if same else 0
