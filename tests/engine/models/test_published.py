"""What a file of published weights is, seen from its names and shapes alone."""

import pytest
import torch

from engine.errors import CheckpointRefused, UsageError
from engine.models.architecture import DetectorConfig
from engine.models.detector import Detector
from engine.models.import_names import load_imported
from engine.models.published import recognise

CASES = [
    "facebookresearch/detr",
    "facebookresearch/detr, pre-norm",
    "Deformable-DETR",
    "Deformable-DETR, refined",
    "Deformable-DETR, two stages",
]
NOT_IN_THE_FILE = {"image_size", "num_queries", "proposal_candidates", "patch_slots"}


@pytest.fixture(scope="module")
def originals(fake):
    return fake("originals")


def architecture(originals, case, **changes):
    """With eight heads, as published ones have."""
    return DetectorConfig(**originals.BACKBONE | originals.CASES[case] | {"heads": 8, "dimension": 32, "frozen_stages": 2} | changes)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_architecture_is_seen_and_every_weight_fits(originals, case, prefix):
    config = architecture(originals, case, encoder_layers=1, decoder_layers=3)
    source, state = originals.published(config)
    optimizer = {"optimizer.state.0.exp_avg": torch.zeros(2)}
    found = recognise({f"{prefix}{name}": tensor for name, tensor in state.items()} | optimizer, file="x.pth", backbone="test_resnet")
    unknown = NOT_IN_THE_FILE | ({"points"} if config.architecture == "detr" else set())
    assert found.config.model_dump(exclude=unknown) == config.model_dump(exclude=unknown)
    assert found.config.patch_slots == found.config.num_queries
    model = Detector(found.config, originals.CLASSES)
    imported = load_imported(model, found.weights)
    assert imported.unused == ()
    wanted = source.state_dict()
    assert all(torch.equal(model.state_dict()[name], wanted[name]) for name in imported.taken)


def test_c4_is_told_from_c5(originals):
    config = architecture(originals, "facebookresearch/detr", feature_levels=(3,))
    _, state = originals.published(config)
    deepest = {"backbone.0.body.layer4.0.conv1.weight": torch.zeros(64, Detector(config, 2).backbone.channels[0], 1, 1)}
    assert recognise(state | deepest, file="x.pth", backbone="test_resnet").config.feature_levels == (3,)


@pytest.mark.parametrize(("name", "known"), [("resnet18", True), ("resnet50", True), ("resnet26", False)])
def test_the_resnets_of_the_papers_are_recognised_and_others_must_be_stated(originals, name, known):
    config = architecture(originals, "facebookresearch/detr", backbone=name)
    _, state = originals.published(config)
    if known:
        assert recognise(state, file="x.pth").config.backbone == name
    else:
        with pytest.raises(UsageError, match="--backbone NAME"):
            recognise(state, file="x.pth")


def test_other_weights_are_refused():
    with pytest.raises(CheckpointRefused, match="no tensor of an encoder's layers among 1"):
        recognise({"layer1.0.conv1.weight": torch.zeros(1)}, file="resnet.pth")


def test_a_detector_cut_short_is_refused(originals):
    _, state = originals.published(architecture(originals, "Deformable-DETR"))
    less = {name: tensor for name, tensor in state.items() if "linear1" not in name}
    with pytest.raises(CheckpointRefused, match=r"x.pth: no tensor is called .*linear1"):
        recognise(less, file="x.pth", backbone="test_resnet")
