"""Names of the original repositories, and what an import refuses. Outputs after an import are compared in tests/oracle."""

import pytest
import torch

from engine.errors import CheckpointRefused
from engine.models.architecture import DetectorConfig
from engine.models.detector import Detector
from engine.models.import_names import from_original, from_transformers, load_imported


@pytest.fixture(scope="module")
def originals(fake):
    return fake("originals")


@pytest.mark.parametrize(
    "case",
    [
        "facebookresearch/detr",
        "facebookresearch/detr, pre-norm",
        "Deformable-DETR",
        "Deformable-DETR, refined",
        "Deformable-DETR, two stages",
    ],
)
def test_original_names_bring_every_weight_to_its_place(case, originals):
    config = DetectorConfig(**originals.BACKBONE | originals.CASES[case])
    source, state = originals.published(config)
    target = Detector(config, originals.CLASSES)
    imported = load_imported(target, from_original({f"module.{name}": tensor for name, tensor in state.items()}, config))
    assert imported.unused == ()
    assert all(name.startswith(("patch_queries.", "decoder.box_position.")) for name in imported.fresh)
    wanted, got = source.state_dict(), target.state_dict()
    assert all(torch.equal(got[name], wanted[name]) for name in imported.taken)
    assert len(imported.taken) > 100


def test_up_detr_brings_its_patch_queries(originals):
    config = DetectorConfig(**originals.BACKBONE | originals.CASES["facebookresearch/detr"])
    _, state = originals.published(config)
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


def test_published_files_and_modules_of_transformers_are_named_alike(originals):
    """Files on its hub say out_proj and fc1 where its newer modules say o_proj and mlp.fc1."""
    config = DetectorConfig(**originals.BACKBONE | originals.CASES["facebookresearch/detr"])
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


def test_other_classes_leave_the_class_heads_fresh(originals):
    config = DetectorConfig(**originals.BACKBONE | originals.CASES["Deformable-DETR, two stages"])
    _, state = originals.published(config)
    other = Detector(config, 5)
    with pytest.raises(CheckpointRefused, match="of another shape"):
        load_imported(other, from_original(state, config))
    imported = load_imported(other, from_original(state, config), classes=False)
    assert {name for name in imported.fresh if "class" in name} == {name for name in other.state_dict() if "class" in name}


def test_a_missing_layer_is_refused_and_nothing_is_loaded(originals):
    config = DetectorConfig(**originals.BACKBONE | originals.CASES["facebookresearch/detr"])
    _, state = originals.published(config)
    state = {name: tensor for name, tensor in state.items() if "encoder.layers.0.linear1" not in name}
    target = Detector(config, originals.CLASSES)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(CheckpointRefused, match=r"encoder.layers.0.feedforward.0.bias.* missing \(2 in all\)"):
        load_imported(target, from_original(state, config))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
