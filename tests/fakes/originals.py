"""Published detectors: the architectures of their repositories, and weights under the names that they save them by."""

import re

import torch

from engine.models.detector import Detector
from engine.models.presets import DEFORMABLE_DETR, DETR

BACKBONE = {
    "backbone": "test_resnet",
    "backbone_weights": "none",
    "dimension": 16,
    "heads": 2,
    "points": 2,
    "feedforward": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "image_size": 64,
}
CASES = {
    "facebookresearch/detr": DETR,
    "facebookresearch/detr, pre-norm": DETR | {"encoder_norm": "pre", "decoder_norm": "pre"},
    "Deformable-DETR": DEFORMABLE_DETR | {"refinement": False, "extra_level": True},
    "Deformable-DETR, refined": DEFORMABLE_DETR | {"extra_level": True},
    "Deformable-DETR, two stages": DEFORMABLE_DETR | {"queries": "coordinates"},
}
CLASSES = 2


def original_name(name, config):
    """Our name → that of the original repository, written down from its modules; None for what it does not have."""
    dense = config.architecture == "detr"
    cross, norms = ("multihead_attn", ("norm1", "norm2")) if dense else ("cross_attn", ("norm2", "norm1"))
    rules = [
        (r"backbone\.body\.", "backbone.0.body."),
        (r"encoder\.projection\.", "input_proj."),
        (r"encoder\.projections\.", "input_proj."),
        (r"encoder\.level_embedding", "transformer.level_embed"),
        (r"encoder\.(layers\.\d+)\.attention\.", r"transformer.encoder.\1.self_attn."),
        (r"encoder\.(layers\.\d+)\.attention_norm\.", r"transformer.encoder.\1.norm1."),
        (r"encoder\.(layers\.\d+)\.feedforward_norm\.", r"transformer.encoder.\1.norm2."),
        (r"decoder\.(layers\.\d+)\.self_attention\.", r"transformer.decoder.\1.self_attn."),
        (r"decoder\.(layers\.\d+)\.cross_attention\.", rf"transformer.decoder.\1.{cross}."),
        (r"decoder\.(layers\.\d+)\.self_norm\.", rf"transformer.decoder.\1.{norms[0]}."),
        (r"decoder\.(layers\.\d+)\.cross_norm\.", rf"transformer.decoder.\1.{norms[1]}."),
        (r"decoder\.(layers\.\d+)\.feedforward_norm\.", r"transformer.decoder.\1.norm3."),
        (r"(encoder|decoder)\.norm\.", r"transformer.\1.norm."),
        (r"decoder\.box_head\.(\d)\.", lambda found: f"bbox_embed.layers.{int(found[1]) // 2}."),
        (r"decoder\.box_heads\.(\d+)\.(\d)\.", lambda found: f"bbox_embed.{found[1]}.layers.{int(found[2]) // 2}."),
        (r"proposals\.boxes\.(\d)\.", lambda found: f"bbox_embed.{config.decoder_layers}.layers.{int(found[1]) // 2}."),
        (r"proposals\.classes\.", f"class_embed.{config.decoder_layers}."),
        (r"class_heads\.0\.0\." if dense else r"class_heads\.(\d+)\.0\.", "class_embed." if dense else r"class_embed.\1."),
        (r"patch_queries\.position\.", "query_embed."),
        (r"object_queries\.reference\.", "transformer.reference_points."),
        (r"object_queries\.embed\.", "transformer.pos_trans."),
        (r"object_queries\.norm\.", "transformer.pos_trans_norm."),
        (r"proposals\.project\.", "transformer.enc_output."),
        (r"proposals\.norm\.", "transformer.enc_output_norm."),
    ]
    for pattern, replacement in rules:
        if re.match(pattern, name):
            named = re.sub(f"^{pattern}", replacement, name)
            named = re.sub(r"(layers\.\d+)\.feedforward\.0\.", r"\1.linear1.", named)
            return named.replace("value_projection", "value_proj").replace("output_projection", "output_proj")
    linear = re.fullmatch(r"(encoder|decoder)\.(layers\.\d+)\.feedforward\.([02])\.(\w+)", name)
    return f"transformer.{linear[1]}.{linear[2]}.linear{1 + int(linear[3]) // 2}.{linear[4]}" if linear else None


def published(config):
    """A detector, and its weights as the original repository would have saved them."""
    model = Detector(config, CLASSES)
    ours = model.state_dict()
    state = {}
    for name, tensor in ours.items():
        named = original_name(name, config)
        if named is not None:
            state[named] = tensor
    if "object_queries.position.weight" in ours:
        state["query_embed.weight"] = torch.cat([ours["object_queries.position.weight"], ours["object_queries.content.weight"]], 1)
    if config.architecture == "deformable":
        for name in [name for name in state if name.startswith(("bbox_embed.", "class_embed.")) and config.refinement]:
            state[f"transformer.decoder.{name}"] = state[name]
    return model, state
