"""Weights of published detection transformers under our names.

Two vocabularies are understood: that of the transformers library (``Detr…`` and ``DeformableDetrForObjectDetection``) and that
of the original repositories (facebookresearch/detr, fundamentalvision/Deformable-DETR, dddzg/up-detr). The architecture that gives
the same outputs is the caller's to state; tests/oracle has one for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import CheckpointRefused
from engine.models.architecture import DetectorConfig
from engine.models.detector import Detector

__all__ = ["Imported", "from_original", "from_transformers", "load_imported"]

_ATTENTION = {"value_proj": "value_projection", "output_proj": "output_projection", "o_proj": "out_proj"}
_TRANSFORMERS_PARTS = {
    "encoder": {"self_attn": "attention", "self_attn_layer_norm": "attention_norm"},
    "decoder": {
        "self_attn": "self_attention",
        "self_attn_layer_norm": "self_norm",
        "encoder_attn": "cross_attention",
        "encoder_attn_layer_norm": "cross_norm",
    },
}
_TRANSFORMERS_COMMON = {"fc1": "feedforward.0", "fc2": "feedforward.2", "final_layer_norm": "feedforward_norm"}
_ORIGINAL_PARTS = {
    "encoder": {"self_attn": "attention", "norm1": "attention_norm", "norm2": "feedforward_norm"},
    "decoder": {"self_attn": "self_attention", "multihead_attn": "cross_attention", "norm1": "self_norm", "norm2": "cross_norm"},
    "deformable decoder": {"self_attn": "self_attention", "cross_attn": "cross_attention", "norm1": "cross_norm", "norm2": "self_norm"},
}
_ORIGINAL_COMMON = {"linear1": "feedforward.0", "linear2": "feedforward.2", "norm3": "feedforward_norm"}
_RENAMED = {
    "input_projection": "encoder.projection",
    "input_proj": "encoder.projection",
    "level_embed": "encoder.level_embedding",
    "encoder.norm": "encoder.norm",
    "decoder.norm": "decoder.norm",
    "decoder.layernorm": "decoder.norm",
    "reference_points": "object_queries.reference",
    "enc_output": "proposals.project",
    "enc_output_norm": "proposals.norm",
    "pos_trans": "object_queries.embed",
    "pos_trans_norm": "object_queries.norm",
    "patch2query": "patch_queries.patch",
}
_QUERIES = ("query_position_embeddings.weight", "query_embed.weight")
_OPTIONAL = ("decoder.box_position.", "patch_queries.", "denoising.")


def _layer(match: re.Match[str], parts: Mapping[str, str]) -> str | None:
    """The name of a tensor in an encoder or decoder layer."""
    stack, number, part, rest = match["stack"], match["number"], match["part"], match["rest"]
    if part not in parts:
        return None
    first, _, last = rest.rpartition(".")
    inner = f"{_ATTENTION.get(first, first)}." if first else ""
    return f"{stack}.layers.{number}.{parts[part]}.{inner}{last}"


def _head(name: str, config: DetectorConfig) -> str | None:
    """The name of a tensor of a class or box head; the head after the last decoder layer's is the proposals'."""
    found = re.fullmatch(
        r"(?:decoder\.)?(?P<kind>class_embed|bbox_embed|class_labels_classifier|bbox_predictor)"
        r"(?:\.(?P<head>\d+))?(?:\.layers\.(?P<layer>\d+))?\.(?P<what>weight|bias)",
        name,
    )
    if not found:
        return None
    head, what = int(found["head"] or 0), found["what"]
    boxes = found["layer"] is not None
    place = 2 * int(found["layer"] or 0)
    if config.architecture == "detr":
        return f"decoder.box_head.{place}.{what}" if boxes else f"class_heads.0.0.{what}"
    if head == config.decoder_layers:
        return f"proposals.boxes.{place}.{what}" if boxes else f"proposals.classes.{what}"
    if head and not config.refinement:
        return None
    return f"decoder.box_heads.{head}.{place}.{what}" if boxes else f"class_heads.{head}.0.{what}"


def _elsewhere(name: str, config: DetectorConfig) -> str | None:
    """The name of a tensor outside the layers."""
    body = re.fullmatch(r"backbone\.(?:0\.body|(?:conv_encoder\.)?model)\.(.+)", name)
    if body:
        return f"backbone.body.{body[1]}"
    align = re.fullmatch(r"feature_align\.layers\.(\d)\.(\w+)", name)
    if align:
        return f"patch_queries.reconstruction.{2 * int(align[1])}.{align[2]}"
    level = re.fullmatch(r"input_proj\.(\d+)\.(.+)", name)
    if level:
        return f"encoder.projections.{level[1]}.{level[2]}"
    if name == "level_embed":
        return _RENAMED[name]
    stem, _, last = name.rpartition(".")
    return f"{_RENAMED[stem]}.{last}" if stem in _RENAMED else _head(name, config)


def _join_projections(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value projections of dense attention as one matrix."""
    joined = {name: tensor for name, tensor in weights.items() if not re.search(r"\.[qkv]_proj\.\w+$", name)}
    for name in weights:
        found = re.fullmatch(r"(.+)\.q_proj\.(weight|bias)", name)
        if found:
            parts = [weights[f"{found[1]}.{each}_proj.{found[2]}"] for each in "qkv"]
            joined[f"{found[1]}.in_proj_{found[2]}"] = torch.cat(parts)
    return joined


def _queries(embedding: Tensor, config: DetectorConfig) -> dict[str, Tensor]:
    if config.architecture == "detr":
        return {"patch_queries.position.weight": embedding}
    position, content = embedding.chunk(2, -1)
    return {"object_queries.position.weight": position.clone(), "object_queries.content.weight": content.clone()}


def _translate(
    state: Mapping[str, Tensor], config: DetectorConfig, layers: re.Pattern[str], parts: Mapping[str, Mapping[str, str]]
) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for full, tensor in state.items():
        if full.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^(?:module\.)?(?:model\.|transformer\.)?", "", full)
        if name in _QUERIES:
            weights |= _queries(tensor, config)
            continue
        layer = layers.fullmatch(name)
        ours = _layer(layer, parts[layer["stack"]]) if layer else _elsewhere(name, config)
        if ours is not None:
            weights[ours] = tensor
    return _join_projections(weights)


def from_transformers(state: Mapping[str, Tensor], config: DetectorConfig) -> dict[str, Tensor]:
    """Weights named as by the transformers library, under our names; tensors that we have no place for are left out.

    Both the names of its modules and those of its published files are understood. The backbone must be timm's.
    """
    layers = re.compile(r"(?P<stack>encoder|decoder)\.layers\.(?P<number>\d+)\.(?:mlp\.)?(?P<part>\w+)\.(?P<rest>.+)")
    parts = {stack: known | _TRANSFORMERS_COMMON for stack, known in _TRANSFORMERS_PARTS.items()}
    return _translate(state, config, layers, parts)


def from_original(state: Mapping[str, Tensor], config: DetectorConfig) -> dict[str, Tensor]:
    """Weights named as in the original repositories, under our names; tensors that we have no place for are left out.

    UP-DETR's pre-training head has three classes, the first of them dead (REFERENCE of its code); the logit that a slot is matched becomes
    the difference of the other two.
    """
    layers = re.compile(r"(?P<stack>encoder|decoder)\.layers\.(?P<number>\d+)\.(?P<part>\w+)\.(?P<rest>.+)")
    decoder = "decoder" if config.architecture == "detr" else "deformable decoder"
    parts = {"encoder": _ORIGINAL_PARTS["encoder"] | _ORIGINAL_COMMON, "decoder": _ORIGINAL_PARTS[decoder] | _ORIGINAL_COMMON}
    weights = _translate(state, config, layers, parts)
    if "patch_queries.patch.weight" in weights:
        for what in ("weight", "bias"):
            _, matched, absent = weights.pop(f"class_heads.0.0.{what}")
            weights[f"patch_queries.matched.{what}"] = (matched - absent)[None] if what == "weight" else (matched - absent).view(1)
    return weights


@dataclass(frozen=True)
class Imported:
    """What an import did, by our names."""

    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    """parts of the model that the weights do not speak of: they start anew"""
    unused: tuple[str, ...]


def load_imported(model: Detector, weights: Mapping[str, Tensor], *, classes: bool = True) -> Imported:
    """Give ``model`` imported weights.

    Args:
        model: of the architecture that the weights come from.
        weights: under our names.
        classes: False leaves the class heads fresh, for other classes than the weights'.

    Raises:
        CheckpointRefused: a tensor of the transformer or the backbone is missing or of another shape; nothing is loaded then.
    """
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    free = _OPTIONAL if classes else (*_OPTIONAL, "class_heads.", "proposals.classes.")
    offered = {name: tensor for name, tensor in weights.items() if classes or not name.startswith(("class_heads.", "proposals.classes."))}
    missing = sorted(name for name in wanted if name not in offered and not name.startswith(free))
    reshaped = sorted(name for name in wanted if name in offered and wanted[name].shape != offered[name].shape)
    if missing or reshaped:
        raise CheckpointRefused(
            f"weights that do not fit: {missing[:3]} missing ({len(missing)} in all), {reshaped[:3]} of another shape",
            expected="weights of the architecture in the configuration",
            remedy="State their backbone, layers, dimension, queries and classes in the configuration",
        )
    taken = {name: tensor for name, tensor in offered.items() if name in wanted}
    model.load_state_dict(taken, strict=False)
    fresh = tuple(sorted(wanted.keys() - taken.keys()))
    return Imported(tuple(sorted(taken)), fresh, tuple(sorted(weights.keys() - taken.keys())))
