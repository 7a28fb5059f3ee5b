"""Names of the original repositories, and what an import refuses. Outputs after an import are compared in tests/oracle."""

import re

import pytest
import torch

from engine.errors import CheckpointRefused
from engine.models.architecture import DetectorConfig
from engine.models.detector import Detector
from engine.models.import_names import from_original, from_transformers, load_imported
from engine.models.presets import DEFORMABLE_DETR, DETR

BACKBONE = {
    "backbone": "test_resnet",
    "backbone_weights": "none",
    "dimension": 16,
    "heads": 2,
    "points": 2,
    "feedforward": 24,
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


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_original_names_bring_every_weight_to_its_place(values):
    config = DetectorConfig(**BACKBONE | values)
    source, state = published(config)
    target = Detector(config, CLASSES)
    imported = load_imported(target, from_original({f"module.{name}": tensor for name, tensor in state.items()}, config))
    assert imported.unused == ()
    assert all(name.startswith(("patch_queries.", "decoder.box_position.")) for name in imported.fresh)
    wanted, got = source.state_dict(), target.state_dict()
    assert all(torch.equal(got[name], wanted[name]) for name in imported.taken)
    assert len(imported.taken) > 100


def test_up_detr_brings_its_patch_queries():
    config = DetectorConfig(**BACKBONE | CASES["facebookresearch/detr"])
    _, state = published(config)
    channels = 96
    state |= {"class_embed.weight": torch.rand(3, 16), "class_embed.bias": torch.tensor([9.0, 3.0, 1.0])}
    state |= {"patch2query.weight": torch.rand(16, channels), "patch2query.bias": torch.rand(16)}
    for layer, shape in enumerate([(16, 16), (channels, 16)]):
        state |= {f"feature_align.layers.{layer}.weight": torch.rand(shape), f"feature_align.layers.{layer}.bias": torch.rand(shape[0])}
    model = Detector(config, 0)
    imported = load_imported(model, from_original(state, config))
    assert imported.fresh == imported.unused == ()
    assert model.patch_queries.matched.bias.tolist() == [2.0]
    assert torch.equal(model.patch_queries.reconstruction[2].weight, state["feature_align.layers.1.weight"])


def test_published_files_and_modules_of_transformers_are_named_alike():
    """Files on its hub say out_proj and fc1 where its newer modules say o_proj and mlp.fc1."""
    config = DetectorConfig(**BACKBONE | CASES["facebookresearch/detr"])
    layer = "model.decoder.layers.1."
    parts = {f"{layer}self_attn.{each}_proj.weight": torch.rand(16, 16) for each in "qkv"}
    old = parts | {f"{layer}self_attn.out_proj.weight": torch.eye(16), f"{layer}fc1.weight": torch.ones(24, 16)}
    new = parts | {f"{layer}self_attn.o_proj.weight": torch.eye(16), f"{layer}mlp.fc1.weight": torch.ones(24, 16)}
    one, two = from_transformers(old, config), from_transformers(new, config)
    assert (
        sorted(one)
        == sorted(two)
        == [
            "decoder.layers.1.feedforward.0.weight",
            "decoder.layers.1.self_attention.in_proj_weight",
            "decoder.layers.1.self_attention.out_proj.weight",
        ]
    )
    assert torch.equal(one["decoder.layers.1.self_attention.in_proj_weight"][16:32], parts[f"{layer}self_attn.k_proj.weight"])


def test_other_classes_leave_the_class_heads_fresh():
    config = DetectorConfig(**BACKBONE | CASES["Deformable-DETR, two stages"])
    _, state = published(config)
    other = Detector(config, 5)
    with pytest.raises(CheckpointRefused, match="of another shape"):
        load_imported(other, from_original(state, config))
    imported = load_imported(other, from_original(state, config), classes=False)
    assert {name for name in imported.fresh if "class" in name} == {name for name in other.state_dict() if "class" in name}


def test_a_missing_layer_is_refused_and_nothing_is_loaded():
    config = DetectorConfig(**BACKBONE | CASES["facebookresearch/detr"])
    _, state = published(config)
    state = {name: tensor for name, tensor in state.items() if "encoder.layers.0.linear1" not in name}
    target = Detector(config, CLASSES)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(CheckpointRefused, match=r"encoder.layers.0.feedforward.0.bias.* missing \(2 in all\)"):
        load_imported(target, from_original(state, config))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
