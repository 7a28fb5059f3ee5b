"""Published detection transformers: which architecture a file of weights holds, read from its names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from engine.errors import CheckpointRefused, UsageError
from engine.models.architecture import DetectorConfig
from engine.models.import_names import from_original, from_transformers
from engine.models.presets import DEFORMABLE_DETR, DETR

__all__ = ["Published", "recognise"]

_RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
}
"""By blocks a stage, and whether a block has three convolutions."""
_EXPECTED = "DETR, UP-DETR or Deformable DETR of the original repositories or the transformers library"
_HEADS = 8


class Published(NamedTuple):
    """A published detector, understood."""

    config: DetectorConfig
    """the architecture that gives the same outputs"""
    weights: dict[str, Tensor]
    """under our names"""


class _Names:
    """The tensors of one model, what stands before all their names taken off."""

    def __init__(self, tensors: Mapping[str, Tensor], file: str) -> None:
        layers = [found for name in tensors if (found := re.match(r"(.*?)(transformer\.)?encoder\.layers\.0\.", name))]
        if not layers:
            raise CheckpointRefused(f"{file}: no tensor of an encoder's layers among {len(tensors)}", expected=_EXPECTED)
        self.original = bool(layers[0][2])
        before = layers[0][1]
        prefix = before if self.original else before.removesuffix("model.")
        self.tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        self.file = file

    def any(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.tensors)

    def count(self, pattern: str) -> int:
        """How many numbers the pattern's group takes."""
        return len({int(found[1]) for name in self.tensors if (found := re.search(pattern, name))})

    def shape(self, pattern: str) -> tuple[int, ...]:
        for name, tensor in self.tensors.items():
            if re.search(pattern, name):
                return tuple(tensor.shape)
        raise CheckpointRefused(f"{self.file}: no tensor is called {pattern.replace(chr(92), '')}", expected=_EXPECTED)


def _backbone(names: _Names, stated: str | None) -> str:
    if stated is not None:
        return stated
    blocks = tuple(names.count(rf"layer{stage}\.(\d+)\.conv1") for stage in range(1, 5))
    found = _RESNETS.get((blocks, names.any(r"layer1\.0\.conv3")))  # type: ignore[arg-type]
    if found is None:
        raise UsageError(
            f"{names.file}: a backbone with {blocks} blocks is none of {sorted(_RESNETS.values())}",
            expected="timm's name of it",
            remedy="State it: --backbone NAME",
        )
    return found


def _dense(names: _Names) -> dict[str, Any]:
    queries = names.shape(r"(query_embed|query_position_embeddings)\.weight$")[0]
    channels = names.shape(r"(input_proj|input_projection)\.weight$")[1]
    before_last = names.shape(r"layer4\.0\.conv1\.weight$")[1] if names.any(r"layer4\.0\.conv1\.weight$") else None
    pre_norm = names.any(r"(^|\.)encoder\.norm\.weight$")
    return DETR | {
        "feature_levels": (3,) if channels == before_last else (4,),
        "num_queries": queries,
        "patch_slots": queries,
        **({"encoder_norm": "pre", "decoder_norm": "pre"} if pre_norm else {}),
    }


def _deformable(names: _Names) -> dict[str, Any]:
    levels = names.count(r"input_proj\.(\d+)\.0\.weight$")
    if levels not in (3, 4):
        raise CheckpointRefused(
            f"{names.file}: {levels} feature levels", expected="three, or four of which the last is made by a convolution"
        )
    offsets = names.shape(r"encoder\.layers\.0\.self_attn\.sampling_offsets\.bias$")[0]
    learned = names.any(r"(query_embed|query_position_embeddings)\.weight$")
    queries = names.shape(r"(query_embed|query_position_embeddings)\.weight$")[0] if learned else 300
    return DEFORMABLE_DETR | {
        "queries": "learned" if learned else "coordinates",
        "refinement": names.any(r"decoder\.bbox_embed\."),
        "extra_level": levels == 4,
        "points": offsets // (2 * _HEADS * levels),
        "num_queries": queries,
        "proposal_candidates": max(queries, 300),
        "patch_slots": queries,
    }


def recognise(tensors: Mapping[str, Tensor], *, file: str, backbone: str | None = None) -> Published:
    """Which detector ``tensors`` are.

    What no shape tells is taken as published: eight heads, no dropout, and for a ResNet the first stage and the stem frozen.

    Args:
        tensors: what the file holds, under its names; those of an optimizer beside them are left out.
        file: its name, for messages.
        backbone: timm's name of the backbone; None for a ResNet-18, -34, -50 or -101, which is recognised.

    Raises:
        CheckpointRefused: no DETR, UP-DETR or Deformable DETR.
        UsageError: the backbone is none of those and was not stated.
    """
    names = _Names(tensors, file)
    feedforward, dimension = names.shape(r"encoder\.layers\.0\.(mlp\.)?(linear1|fc1)\.weight$")
    values = _deformable(names) if names.any(r"\.sampling_offsets\.") else _dense(names)
    config = DetectorConfig.from_mapping(
        values
        | {
            "backbone": _backbone(names, backbone),
            "backbone_weights": "none",
            "frozen_stages": 2,
            "dimension": dimension,
            "heads": _HEADS,
            "feedforward": feedforward,
            "encoder_layers": names.count(r"(?:^|\.)encoder\.layers\.(\d+)\."),
            "decoder_layers": names.count(r"(?:^|\.)decoder\.layers\.(\d+)\."),
        }
    )
    translate = from_original if names.original else from_transformers
    return Published(config, translate(names.tensors, config))
