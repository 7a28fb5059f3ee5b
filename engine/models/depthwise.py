"""Depthwise convolutions that are quick on a CPU, in both directions.

PyTorch's own gradient of a depthwise convolution is slow there: with EfficientNet-Lite0 it takes over half of a training step, and in
bfloat16 with channels last it takes four times as long as in float32. The same gradient, written as forward convolutions, is not.
Where PyTorch's is quick (the kernel's, if that is 3 × 3; the map's in float32, where it is strided), it is taken.

TensorFlow's "same" padding of strided convolutions is one wider behind than before, which PyTorch makes by a padded copy of the map; that
takes longer than the convolution. A kernel with a leading row and column of zeros and equal padding gives the same without one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DepthwiseConv2d", "use_quick_gradients"]


_QUICK_SIDE = 3
"""Of kernels whose gradient PyTorch computes quickly."""


class _Padding(NamedTuple):
    """Rows and columns of zeros around a map; those behind are as many as those before, or more."""

    top: int
    bottom: int
    left: int
    right: int


def _convolve(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: _Padding) -> Tensor:
    rows, columns = padding.bottom - padding.top, padding.right - padding.left
    if rows or columns:
        weight = functional.pad(weight, (columns, 0, rows, 0))
    return functional.conv2d(images, weight, bias, stride=stride, padding=(padding.bottom, padding.right), groups=len(weight))


def _torchs(gradient: Tensor, padded: Tensor, weight: Tensor, stride: int, *, of_images: bool) -> Tensor:
    """PyTorch's gradient of the images (then ``padded`` is read for its shape alone) or of the weight."""
    wanted = [of_images, not of_images, False]
    found = torch.ops.aten.convolution_backward(
        gradient, padded, weight, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], len(weight), wanted
    )
    result: Tensor = found[0] if of_images else found[1]
    return result


def _input_gradient(gradient: Tensor, weight: Tensor, size: torch.Size, stride: int, padding: _Padding) -> Tensor:
    """The gradient spread out by the stride, convolved with the flipped kernel; ``size`` is that of the convolution's input."""
    batch, channels, height, width = size
    side = weight.shape[-1]
    top, left = side - 1 - padding.top, side - 1 - padding.left
    if stride == 1:
        spread_out = functional.conv2d(gradient, weight.flip(2, 3), padding=(top, left), groups=len(weight))
        return spread_out[..., :height, :width]
    if gradient.dtype == torch.float32:
        rows, columns = height + padding.top + padding.bottom, width + padding.left + padding.right
        padded = gradient.new_empty(batch, rows, columns, channels).permute(0, 3, 1, 2)
        of_padded = _torchs(gradient, padded, weight, stride, of_images=True)
        return of_padded[..., padding.top : padding.top + height, padding.left : padding.left + width]
    spread = gradient.new_empty(batch, height + side - 1, width + side - 1, channels).zero_().permute(0, 3, 1, 2)
    spread[:, :, top::stride, left::stride][:, :, : gradient.shape[2], : gradient.shape[3]] = gradient
    return functional.conv2d(spread, weight.flip(2, 3), groups=len(weight))


def _weight_gradient(images: Tensor, gradient: Tensor, side: int, stride: int, padding: _Padding) -> Tensor:
    """Every channel of every image correlated with its own gradient: a convolution whose kernel is the gradient. In float32."""
    batch, channels = images.shape[:2]
    if side == _QUICK_SIDE:
        padded = functional.pad(images.float(), (padding.left, padding.right, padding.top, padding.bottom))
        return _torchs(gradient.float(), padded, padded.new_empty(channels, 1, side, side), stride, of_images=False)
    maps = images.float().contiguous().view(1, batch * channels, *images.shape[2:])
    kernels = gradient.float().contiguous().view(batch * channels, 1, *gradient.shape[2:])
    correlated = functional.conv2d(maps, kernels, padding=(padding.bottom, padding.right), dilation=stride, groups=batch * channels)
    first_row, first_column = padding.bottom - padding.top, padding.right - padding.left
    kernel = correlated[..., first_row : first_row + side, first_column : first_column + side]
    return kernel.reshape(batch, channels, side, side).sum(0)[:, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: _Padding) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(images, weight.to(images.dtype), None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = _input_gradient(gradient, weight.to(images.dtype), images.shape, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(images, gradient, weight.shape[-1], ctx.stride, ctx.padding).to(weight.dtype)
        return of_images, of_weight, None, None


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution with the same weights and results as the one that it replaces."""

    same_padding: bool

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H', W')."""
        return self.convolve(images, self.weight, None)

    def convolve(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with another kernel (C, 1, k, k), and something to add to every channel (C,)."""
        stride, padding = self.stride[0], self._padding(images.shape[2], images.shape[3])
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            if not self.same_padding:
                convolved: Tensor = self._conv_forward(images, weight, bias)
                return convolved
            padded = functional.pad(images, (padding.left, padding.right, padding.top, padding.bottom))
            return functional.conv2d(padded, weight, bias, stride=stride, groups=self.groups)
        if not torch.is_grad_enabled() or not (images.requires_grad or weight.requires_grad):
            return _convolve(images, weight, bias, stride, padding)
        if torch.is_autocast_enabled("cpu"):
            images = images.to(torch.get_autocast_dtype("cpu"))
        output: Tensor = _Depthwise.apply(images, weight, stride, padding)
        return output if bias is None else output + bias.to(output.dtype).view(-1, 1, 1)

    def _padding(self, height: int, width: int) -> _Padding:
        if not self.same_padding:
            rows, columns = int(self.padding[0]), int(self.padding[1])
            return _Padding(rows, rows, columns, columns)
        side, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-size // stride) - 1) * stride + side - size, 0) for size in (height, width))
        return _Padding(rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)


def use_quick_gradients(module: nn.Module) -> int:
    """Turn every depthwise convolution inside ``module`` into one with quick gradients; its weights stay the same parameters.

    Those with a bias, a dilation, unequal strides or a padding as wide as the kernel are left.

    Returns:
        How many were turned.
    """
    turned = 0
    for child in module.modules():
        if not isinstance(child, nn.Conv2d) or isinstance(child, DepthwiseConv2d):
            continue
        plain = child.bias is None and child.dilation == (1, 1) and child.padding_mode == "zeros"
        square = child.stride[0] == child.stride[1] and child.kernel_size[0] == child.kernel_size[1] > 1
        same = type(child).__name__ == "Conv2dSame" or child.padding == "same"
        narrow = same or max(child.padding) < child.kernel_size[0]  # type: ignore[operator]
        if child.groups == child.in_channels == child.out_channels and child.groups > 1 and plain and square and narrow:
            child.__class__ = DepthwiseConv2d
            child.same_padding = same  # type: ignore[assignment]
            turned += 1
    return turned
