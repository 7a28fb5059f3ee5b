"""Files of weights: nothing in them runs, and they fit as a whole or are refused."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import CheckpointRefused, TilehawkError, UsageError
from engine.models.weight_files import fit_weights, read_metadata, read_tensors

WANTED = {"stem.weight": torch.zeros(2, 3), "stem.num_batches_tracked": torch.tensor(0), "layer_1.bias": torch.zeros(4)}


def weights():
    return {"stem.weight": torch.arange(6.0).view(2, 3), "layer_1.bias": torch.ones(4)}


class Canary:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def safetensors(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def entry(begin, end):
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


HOSTILE = {
    "overlapping offsets": safetensors({"a": entry(0, 16), "b": entry(8, 24)}, bytes(24)),
    "offsets beyond the end": safetensors({"a": entry(0, 64)}, bytes(16)),
    "a gap": safetensors({"a": entry(8, 16)}, bytes(16)),
    "offsets that go back": safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}, bytes(8)),
    "a shape beyond its bytes": safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 16]}}, bytes(16)),
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header beyond the end": struct.pack("<Q", 1000) + b"{}",
    "a header that is no JSON": safetensors(b"{" * 50),
    "deep nesting": safetensors(b"[" * 100_000),
    "an unknown type": safetensors({"a": {"dtype": "EVIL", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
    "nothing": b"",
}


@pytest.mark.guarantee("G32")
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_safetensors_are_refused(tmp_path, what):
    (tmp_path / "evil.safetensors").write_bytes(HOSTILE[what])
    for read in (read_tensors, read_metadata):
        with pytest.raises(CheckpointRefused, match=r"evil\.safetensors: no safetensors can be read from it"):
            read(tmp_path / "evil.safetensors")


@pytest.mark.guarantee("G32")
@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.safetensors", "evil.bin", "evil.pth.tar", "evil.pkl"])
def test_a_pickle_never_runs(tmp_path, name, allow):
    canary = tmp_path / "canary"
    torch.save({"state_dict": {"weight": torch.zeros(2), "more": Canary(canary)}}, tmp_path / name)
    with pytest.raises(TilehawkError) as refused:
        read_tensors(tmp_path / name, allow_pickle=allow)
    assert not canary.exists()
    assert isinstance(refused.value, (CheckpointRefused, UsageError))
    torch.load((tmp_path / name).rename(tmp_path / "loaded"), weights_only=False)
    assert canary.exists()


@pytest.mark.guarantee("G32")
def test_a_pickle_of_tensors_is_read_only_where_it_is_allowed(tmp_path):
    path = tmp_path / "weights.pth.tar"
    torch.save({"epoch": 3, "state_dict": weights(), "args": ["a", 1.5, None]}, path)
    with pytest.raises(UsageError, match=r"weights.pth.tar is a pickle.*--allow-pickle"):
        read_tensors(path)
    found = read_tensors(path, allow_pickle=True)
    assert sorted(found) == ["state_dict.layer_1.bias", "state_dict.stem.weight"]


@pytest.mark.parametrize("place", range(0, 100, 11))
def test_a_pickle_cut_off_is_refused(tmp_path, place):
    path = tmp_path / "weights.pth"
    torch.save(weights(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * place // 100])
    with pytest.raises(CheckpointRefused, match=r"weights.pth"):
        read_tensors(path, allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        ("w.safetensors", {}, "holds no tensor"),
        ("w.safetensors", {"a": torch.tensor([1.0, float("nan")])}, r"\['a'\] hold NaN or infinite"),
        ("w.safetensors", {"a": torch.tensor([float("inf")])}, r"\['a'\] hold NaN or infinite"),
        ("w.onnx", {"a": torch.ones(1)}, r"ends in '.onnx'. expected .safetensors"),
    ],
)
def test_a_file_without_usable_weights_is_refused(tmp_path, name, tensors, message):
    save_file(tensors, tmp_path / name)
    with pytest.raises(CheckpointRefused, match=message):
        read_tensors(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointRefused, match=r"no file .*missing.safetensors"):
        read_tensors(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "backbone.0.body.", "state_dict.module.encoder."])
def test_any_prefix_before_all_names_is_found(prefix):
    source = {f"{prefix}{name}": tensor for name, tensor in weights().items()} | {f"{prefix}fc.weight": torch.zeros(5)}
    fitted = fit_weights(source, WANTED, file="w", module="net")
    assert fitted.prefix == prefix
    assert fitted.unused == (f"{prefix}fc.weight",)
    assert {name: tensor.tolist() for name, tensor in fitted.weights.items()} == {key: value.tolist() for key, value in weights().items()}


def test_dots_and_underscores_are_alike_and_halves_become_singles():
    fitted = fit_weights({"stem.weight": torch.ones(2, 3).half(), "layer.1.bias": torch.ones(4)}, WANTED, file="w", module="net")
    assert list(fitted.weights) == ["stem.weight", "layer_1.bias"]
    assert fitted.weights["stem.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"stem.weight": torch.zeros(2, 3)}, r"w: 1 of 2 tensors of net match; missing \['layer_1.bias'\]"),
        (
            {"stem.weight": torch.zeros(3, 2), "layer_1.bias": torch.ones(4)},
            r"1 of 2 .* of another shape \['stem.weight \(3, 2\) for \(2, 3\)'\]",
        ),
        ({"other": torch.zeros(1)}, r"0 of 2 tensors"),
        (
            {f"{side}.{name}": tensor for side in ("student", "teacher") for name, tensor in weights().items()},
            r"2 sets .*--prefix 'student.'",
        ),
    ],
    ids=["one missing", "another shape", "nothing", "two sets"],
)
def test_weights_that_do_not_fit_as_a_whole_are_refused(source, message):
    with pytest.raises(CheckpointRefused, match=message):
        fit_weights(source, WANTED, file="w", module="net")


def test_one_of_two_sets_is_chosen_by_its_prefix():
    source = {f"{side}.{name}": tensor + number for number, side in enumerate("ab") for name, tensor in weights().items()}
    fitted = fit_weights(source, WANTED, file="w", module="net", prefix="b.")
    assert fitted.weights["layer_1.bias"].tolist() == [2.0] * 4
    assert sorted(fitted.unused) == ["a.layer_1.bias", "a.stem.weight"]
