"""Weights brought into a workspace: checked as a whole, kept under a name of their content, and a detector starts from them."""

import os

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from engine.catalog import ledger
from engine.catalog.weights import new_detector, weights_file
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, CheckpointRefused, UsageError
from engine.stages.import_weights import ImportWeightsConfig, import_weights
from engine.training.loop import seeded

CONFIG = ImportWeightsConfig(backbone="test_resnet")


class Canary:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture(scope="module")
def whole():
    with seeded(7):
        return timm.create_model("test_resnet", pretrained=False).state_dict()


@pytest.fixture
def file(whole, tmp_path):
    save_file({f"module.{name}": tensor for name, tensor in whole.items()}, tmp_path / "resnet.safetensors")
    return tmp_path / "resnet.safetensors"


def test_a_file_becomes_weights_that_a_detector_starts_from(squares, workspace, file, whole):
    report = import_weights(workspace, file, CONFIG)
    assert (report.backbone, report.source, report.prefix) == ("test_resnet", "resnet.safetensors", "module.")
    assert report.unused == ["module.fc.bias", "module.fc.weight"]
    assert report.weights == f"test_resnet-{report.sha256[:12]}.safetensors"
    config = squares.TINY.model_copy(update={"backbone": "test_resnet", "backbone_weights": report.weights})
    model = new_detector(workspace, config, 2)
    assert torch.equal(model.backbone.body.state_dict()["layer1.0.conv1.weight"], whole["layer1.0.conv1.weight"])
    assert model.config == config
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_the_same_file_again_changes_nothing(workspace, file):
    first, again = import_weights(workspace, file, CONFIG), import_weights(workspace, file, CONFIG, source="elsewhere")
    assert [path.name for path in workspace.weights.iterdir()] == [first.weights]
    assert (again.weights, again.sha256) == (first.weights, first.sha256)
    with workspace.session(write=False) as session:
        assert [event.details["source"] for event in ledger.events(session, "import_weights")] == ["resnet.safetensors", "elsewhere"]


def test_the_tag_of_the_backbone_states_the_normalisation(squares, workspace, tmp_path):
    save_file(timm.create_model("test_efficientnet", pretrained=False).state_dict(), tmp_path / "net.safetensors")
    report = import_weights(workspace, tmp_path / "net.safetensors", ImportWeightsConfig(backbone="test_efficientnet.r160_in1k"))
    model = new_detector(workspace, squares.TINY.model_copy(update={"backbone_weights": report.weights}), 0)
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.guarantee("G32")
@pytest.mark.parametrize("allow", [False, True])
def test_a_pickle_that_does_more_than_hold_tensors_never_runs(workspace, whole, tmp_path, allow):
    canary = tmp_path / "canary"
    torch.save({"state_dict": whole, "more": Canary(canary)}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointRefused if allow else UsageError):
        import_weights(workspace, tmp_path / "evil.pth", CONFIG, allow_pickle=allow)
    assert not canary.exists()
    assert list(workspace.weights.iterdir()) == []


@pytest.mark.guarantee("G32")
def test_a_pickle_of_tensors_comes_in_as_safetensors(workspace, whole, tmp_path):
    torch.save({"epoch": 800, "state_dict": {f"module.{name}": tensor for name, tensor in whole.items()}}, tmp_path / "swav.pth.tar")
    report = import_weights(workspace, tmp_path / "swav.pth.tar", CONFIG, allow_pickle=True)
    assert report.prefix == "state_dict.module."
    assert torch.equal(load_file(workspace.weights / report.weights)["conv1.0.weight"], whole["conv1.0.weight"])


def test_weights_of_another_backbone_leave_nothing(workspace, file):
    with pytest.raises(CheckpointRefused, match=r"tensors of test_efficientnet match"):
        import_weights(workspace, file, ImportWeightsConfig(backbone="test_efficientnet"))
    assert list(workspace.weights.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_resnet.safetensors", r"no weights 'test_resnet.safetensors' in this workspace. .*Did you mean 'test_resnet-"),
        ("x.safetensors", "tilehawk models import"),
        ("../catalog.safetensors", "leads out of"),
        ("/etc/x.safetensors", "leads out of"),
    ],
)
def test_weights_that_are_not_there_are_named(workspace, file, name, message):
    import_weights(workspace, file, CONFIG)
    with pytest.raises(BadInput, match=message):
        weights_file(workspace, name)


def test_weights_that_were_damaged_later_are_refused(squares, workspace, file):
    report = import_weights(workspace, file, CONFIG)
    path = workspace.weights / report.weights
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointRefused, match="no safetensors can be read"):
        new_detector(workspace, squares.TINY.model_copy(update={"backbone": "test_resnet", "backbone_weights": report.weights}), 0)
