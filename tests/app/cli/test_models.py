"""``tilehawk models``: the list, and models and weights brought in."""

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture
def workspace(tilehawk, tmp_path):
    assert tilehawk("init", tmp_path / "workspace").code == 0
    return tmp_path / "workspace"


@pytest.fixture
def weights():
    return timm.create_model("test_resnet", pretrained=False).state_dict()


def test_without_a_command_it_lists(tilehawk, workspace):
    assert tilehawk("models", "--workspace", workspace, "--json").document == {"models": []}


def test_a_file_is_brought_in_and_reported(tilehawk, workspace, weights, tmp_path):
    save_file(weights, tmp_path / "net.safetensors")
    typed = tilehawk("models", "import", tmp_path / "net.safetensors", "--backbone", "test_resnet", "--workspace", workspace, "--json")
    assert typed.code == 0, typed.err
    assert (workspace / "weights" / typed.document["weights"]).is_file()
    assert typed.document["unused"] == ["fc.bias", "fc.weight"]
    assert f"--set detector.backbone_weights={typed.document['weights']}" in typed.document["next"]


@pytest.mark.guarantee("G32")
def test_a_pickle_needs_its_flag(tilehawk, workspace, weights, tmp_path):
    torch.save(weights, tmp_path / "net.pth")
    asked = ("models", "import", tmp_path / "net.pth", "--backbone", "test_resnet", "--workspace", workspace)
    refused = tilehawk(*asked)
    assert (refused.code, "--allow-pickle" in refused.err) == (2, True)
    assert tilehawk(*asked, "--allow-pickle").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("there.safetensors",), 2, "--backbone NAME"),
        (("missing.safetensors", "--backbone", "test_resnet"), 3, "no file missing.safetensors"),
        (("elsewhere/models/base",), 3, "no file or folder elsewhere/models/base"),
        (("resnet19",), 3, "timm has no weights 'resnet19'"),
        (("test_resnet.r160_in1k",), 1, "the hub cannot be reached"),
    ],
)
def test_what_cannot_be_brought_in_is_said(tilehawk, workspace, monkeypatch, tmp_path, arguments, code, message):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.safetensors").write_bytes(b"")
    typed = tilehawk("models", "import", *arguments, "--workspace", workspace)
    assert typed.code == code
    assert message in typed.err


def test_a_model_of_another_workspace_is_brought_in_and_listed(tilehawk, workspace, fake, tmp_path):
    from engine.label_set import LabelSet
    from engine.models.detector import Detector
    from engine.models.store import save_model

    folder, identity = tmp_path / "elsewhere" / "base", "0123456789abcdef" * 2
    model = Detector(fake("squares").TINY, 0)
    save_model(folder, model, stage="pretrain", label_set=LabelSet(()), metrics={}, provenance={"workspace": identity})
    typed = tilehawk("models", "import", folder, "--name", "foreign", "--workspace", workspace, "--json")
    assert typed.code == 0, typed.err
    assert (typed.document["model"], typed.document["trained_in"]) == ("foreign", identity)
    assert typed.document["next"] == "tilehawk finetune --from foreign"
    [listed] = tilehawk("models", "--workspace", workspace, "--json").document["models"]
    assert (listed["name"], listed["metrics"]["imported"]["workspace"]) == ("foreign", identity)
    (folder / "model.safetensors").write_bytes(b"")
    refused = tilehawk("models", "import", folder, "--workspace", workspace)
    assert (refused.code, "base: model.safetensors is missing or not what was saved" in refused.err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("folder", "--backbone", "test_resnet"), "--backbone with folder, which is a folder"),
        (("folder", "--allow-pickle"), "--allow-pickle with folder"),
        (("net.safetensors", "--name", "mine"), "--name with net.safetensors, which is no folder"),
    ],
)
def test_what_does_not_go_together_is_said(tilehawk, workspace, monkeypatch, tmp_path, arguments, message):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    typed = tilehawk("models", "import", *arguments, "--workspace", workspace)
    assert (typed.code, message in typed.err) == (2, True), typed.err
