"""Weights from the hub: the real client against a hub on loopback."""

import huggingface_hub.constants
import pytest

from connectors.weights import download
from engine.errors import BadInput, TilehawkError

NAME, REPOSITORY = "test_resnet.r160_in1k", "timm/test_resnet.r160_in1k"


@pytest.fixture
def online(monkeypatch):
    """The client asks; nothing leaves this machine, for the hub is on loopback."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(fake, online):
    with fake("hub").serving(
        {f"{REPOSITORY}/model.safetensors": b"weights", "timm/test_vit.r160_in1k/pytorch_model.bin": b"\x80"}
    ) as served:
        yield served


def test_the_safetensors_of_a_name_are_downloaded_once_and_without_a_token(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = download(NAME, folder=tmp_path, endpoint=hub.address)
    assert found.path.read_bytes() == b"weights"
    assert found.origin == f"{REPOSITORY}@0123456789abcdef0123456789abcdef01234567"
    assert download(NAME, folder=tmp_path, endpoint=hub.address) == found
    assert [method for method, _, _ in hub.asked].count("GET") == 1
    assert {path for _, path, _ in hub.asked} == {f"/{REPOSITORY}/resolve/main/model.safetensors"}
    assert {token for _, _, token in hub.asked} == {None}


def test_a_name_without_a_tag_means_timm_s_own_choice(hub, tmp_path):
    assert download("test_resnet", folder=tmp_path, endpoint=hub.address).origin.startswith(f"{REPOSITORY}@")


def test_what_was_downloaded_is_there_without_a_connection(hub, tmp_path, monkeypatch):
    found = download(NAME, folder=tmp_path, endpoint=hub.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert download(NAME, folder=tmp_path, endpoint=hub.address) == found


def test_a_pickle_is_never_downloaded(hub, tmp_path):
    with pytest.raises(BadInput, match=r"timm/test_vit.r160_in1k has no model.safetensors on the hub.*never downloaded"):
        download("test_vit.r160_in1k", folder=tmp_path, endpoint=hub.address)
    assert {path.rpartition("/")[2] for _, path, _ in hub.asked} == {"model.safetensors"}


def test_a_repository_that_is_not_there_is_named(hub, tmp_path):
    with pytest.raises(BadInput, match=r"timm/test_convnext.r160_in1k has no model.safetensors"):
        download("test_convnext.r160_in1k", folder=tmp_path, endpoint=hub.address)


def test_without_a_connection_it_says_how_to_bring_the_file(tmp_path):
    with pytest.raises(
        TilehawkError, match=r"the hub cannot be reached for timm/test_resnet.*tilehawk models import model.safetensors --back"
    ):
        download(NAME, folder=tmp_path)


def test_a_hub_that_is_not_there_is_said(online, tmp_path, unused_address):
    with pytest.raises(TilehawkError, match="the hub cannot be reached"):
        download(NAME, folder=tmp_path, endpoint=unused_address)


@pytest.fixture
def unused_address():
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize(("name", "message"), [("resnet19", "no weights 'resnet19'"), ("resnet18.none_such", "resnet18.none_such")])
def test_a_name_that_timm_does_not_know_is_refused_unasked(name, message):
    with pytest.raises(BadInput, match=message):
        download(name, endpoint="http://127.0.0.1:1")
