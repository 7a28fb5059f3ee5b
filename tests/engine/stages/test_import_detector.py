"""A published detector becomes a model of the workspace, and fine-tuning goes on from it."""

import argparse

import pytest
import torch
from safetensors.torch import save_file

from engine.catalog.models import get_model, model_directory
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, UsageError
from engine.models.architecture import DetectorConfig
from engine.models.store import load_detector
from engine.stages.finetune import FinetuneConfig, finetune
from engine.stages.import_detector import ImportDetectorConfig, import_detector

CONFIG = ImportDetectorConfig(backbone="test_resnet")


@pytest.fixture
def workspace(squares, fake, tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        yield made


@pytest.fixture(scope="module")
def state(fake):
    """A two-stage Deformable DETR, as its repository would have saved it."""
    originals = fake("originals")
    values = originals.CASES["Deformable-DETR, two stages"] | {"heads": 8, "dimension": 32, "encoder_layers": 2, "decoder_layers": 2}
    _, saved = originals.published(DetectorConfig(**originals.BACKBONE | values))
    return {name: tensor.contiguous().clone() for name, tensor in saved.items()}


@pytest.fixture
def file(state, tmp_path):
    save_file(state, tmp_path / "deformable.safetensors")
    return tmp_path / "deformable.safetensors"


def test_fine_tuning_starts_from_it_in_its_architecture(squares, workspace, file, state):
    report = import_detector(workspace, file, CONFIG)
    assert (report.architecture, report.backbone, report.encoder_layers, report.decoder_layers) == ("deformable", "test_resnet", 2, 2)
    assert any("class" in name for name in report.unused)
    model, stored = load_detector(model_directory(workspace, report.model), stage="pretrain")
    assert torch.equal(model.state_dict()["encoder.layers.1.feedforward.0.weight"], state["transformer.encoder.layers.1.linear1.weight"])
    few = squares.schedule(images_seen=4)
    tuned = finetune(workspace, FinetuneConfig(schedule=few, detector=DetectorConfig(image_size=64)))
    assert tuned.start == report.model
    ours = load_detector(model_directory(workspace, tuned.model))[1].config
    assert ours == stored.config.model_copy(update={"image_size": 64})


def test_the_same_file_again_is_the_same_model_and_another_needs_a_name_of_its_own(workspace, file, state):
    named = CONFIG.model_copy(update={"name": "base"})
    assert import_detector(workspace, file, named) == import_detector(workspace, file, named)
    save_file({name: tensor + 1 for name, tensor in state.items()}, file)
    with pytest.raises(BadInput, match="'base' belongs to another model"):
        import_detector(workspace, file, named)
    with workspace.session(write=False) as session:
        assert get_model(session, "base").stage == "pretrain"


def test_a_training_checkpoint_of_its_repository_is_read_without_running_anything(workspace, state, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": state, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=1e-4)}, path)
    with pytest.raises(UsageError, match="is a pickle"):
        import_detector(workspace, path, CONFIG)
    assert import_detector(workspace, path, CONFIG, allow_pickle=True).tensors > 100
