"""Depthwise convolutions whose gradients are quick on a CPU.

PyTorch's own gradient of a depthwise convolution is slow there: with EfficientNet-Lite0 it takes over half of a training step, and in
bfloat16 with channels last it takes four times as long as in float32. The same gradient, written as forward convolutions, is not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DepthwiseConv2d", "use_quick_gradients"]


def _input_gradient(gradient: Tensor, weight: Tensor, height: int, width: int, stride: int) -> Tensor:
    """The gradient spread out by the stride, convolved with the flipped kernel."""
    side = weight.shape[-1]
    rows, columns = ((size - 1) * stride + 1 for size in gradient.shape[2:])
    if stride > 1:
        spread = gradient.new_zeros(*gradient.shape[:2], rows, columns).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    padded = functional.pad(gradient, (side - 1, width - columns, side - 1, height - rows))
    return functional.conv2d(padded, weight.flip(2, 3), groups=len(weight))


def _weight_gradient(images: Tensor, gradient: Tensor, side: int, stride: int) -> Tensor:
    """Every channel of every image correlated with its own gradient: a convolution whose kernel is the gradient."""
    batch, channels = images.shape[:2]
    maps = images.float().contiguous().view(1, batch * channels, *images.shape[2:])
    kernels = gradient.float().contiguous().view(batch * channels, 1, *gradient.shape[2:])
    correlated = functional.conv2d(maps, kernels, dilation=stride, groups=batch * channels)
    return correlated[..., :side, :side].reshape(batch, channels, side, side).sum(0)[:, None]


class _Depthwise(torch.autograd.Function):
    """Without padding: that is done before, where its gradient is only a slice."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride = stride
        return functional.conv2d(images, weight.to(images.dtype), stride=stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = _input_gradient(gradient, weight.to(images.dtype), images.shape[2], images.shape[3], ctx.stride)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(images, gradient, weight.shape[-1], ctx.stride).to(weight.dtype)
        return of_images, of_weight, None


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution with the same weights and results as the one that it replaces."""

    same_padding: bool

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H', W')."""
        return self.convolve(images, self.weight, None)

    def convolve(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with another kernel (C, 1, k, k), and something to add to every channel (C,)."""
        quick = images.device.type == "cpu" and torch.is_grad_enabled() and (images.requires_grad or weight.requires_grad)
        plain = not quick or torch.compiler.is_compiling()
        if plain and not self.same_padding:
            convolved: Tensor = self._conv_forward(images, weight, bias)
            return convolved
        padded = functional.pad(images, self._padding(images.shape[2], images.shape[3]))
        stride = self.stride[0]
        if plain:
            return functional.conv2d(padded, weight, bias, stride=stride, groups=self.groups)
        if torch.is_autocast_enabled("cpu"):
            padded = padded.to(torch.get_autocast_dtype("cpu"))
        output: Tensor = _Depthwise.apply(padded, weight, stride)
        return output if bias is None else output + bias.to(output.dtype).view(-1, 1, 1)

    def _padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, right, top, bottom)."""
        if not self.same_padding:
            rows, columns = int(self.padding[0]), int(self.padding[1])
            return columns, columns, rows, rows
        side, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-size // stride) - 1) * stride + side - size, 0) for size in (height, width))
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def use_quick_gradients(module: nn.Module) -> int:
    """Turn every depthwise convolution inside ``module`` into one with quick gradients; its weights stay the same parameters.

    Those with a bias, a dilation or unequal strides are left.

    Returns:
        How many were turned.
    """
    turned = 0
    for child in module.modules():
        if not isinstance(child, nn.Conv2d) or isinstance(child, DepthwiseConv2d):
            continue
        plain = child.bias is None and child.dilation == (1, 1) and child.padding_mode == "zeros"
        square = child.stride[0] == child.stride[1] and child.kernel_size[0] == child.kernel_size[1] > 1
        if child.groups == child.in_channels == child.out_channels and child.groups > 1 and plain and square:
            same = type(child).__name__ == "Conv2dSame" or child.padding == "same"
            child.__class__ = DepthwiseConv2d
            child.same_padding = same  # type: ignore[assignment]
            turned += 1
    return turned
