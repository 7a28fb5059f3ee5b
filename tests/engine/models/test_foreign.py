"""Models from elsewhere: what holds is loaded, and whatever does not is refused before it costs memory."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import CheckpointRefused
from engine.files import sha256_of
from engine.models.detector import Detector
from engine.models.foreign import LARGEST_DOCUMENT, load_foreign
from engine.models.store import CONFIG, LABELS, MANIFEST, WEIGHTS, save_model
from engine.models.weight_files import serialized
from engine.training.loop import seeded

WORDS = "words.safetensors"


@pytest.fixture
def folder(squares, tmp_path):
    with seeded(0):
        model = Detector(squares.TINY, 2)
    save_file({"words": torch.zeros(2)}, tmp_path / "words")
    save_model(
        tmp_path / "model",
        model,
        stage="finetune",
        label_set=squares.LABELS,
        metrics={},
        provenance={},
        beside={WORDS: tmp_path / "words"},
    )
    return tmp_path / "model"


def load(folder):
    return load_foreign(folder, beside=frozenset({WORDS}))


def sealed(folder, **said):
    """Bring the manifest up to date, as whoever harms a folder can do."""
    manifest = json.loads((folder / MANIFEST).read_text())
    digests = {name: sha256_of(folder / name) for name in (WEIGHTS, CONFIG, LABELS, WORDS)}
    (folder / MANIFEST).write_text(json.dumps(manifest | {"sha256": digests} | said))


def with_config(**changes):
    def harm(folder):
        (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | changes))
        sealed(folder)

    return harm


def with_weights(change, **said):
    def harm(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        (folder / WEIGHTS).write_bytes(serialized(tensors, said))
        sealed(folder)

    return harm


def with_bytes(name, content):
    def harm(folder):
        (folder / name).write_bytes(content)
        sealed(folder)

    return harm


def linked(folder):
    (folder / WEIGHTS).rename(folder.parent / "elsewhere.safetensors")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere.safetensors")


def piped(folder):
    (folder / WORDS).unlink()
    os.mkfifo(folder / WORDS)


def led_out(folder):
    digests = json.loads((folder / MANIFEST).read_text())["sha256"]
    sealed(folder, sha256=digests | {"../words": sha256_of(folder.parent / "words")})


def another_file(folder):
    (folder / "run.py").write_text("print()")
    digests = json.loads((folder / MANIFEST).read_text())["sha256"]
    sealed(folder, sha256=digests | {"run.py": sha256_of(folder / "run.py")})


def cut(folder):
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)


def nan(tensors):
    tensors["encoder.projections.0.0.weight"].view(-1)[0] = torch.nan


NAN_MEAN = [float("nan"), 0.5, 0.5]
HOSTILE = {
    "a link": (linked, "model.safetensors is a link. expected a plain file"),
    "a pipe": (piped, "words.safetensors is no file"),
    "a path that leads out": (led_out, "../words is missing or not what was saved"),
    "a file that is no part of a model": (another_file, "the file 'run.py'"),
    "cut weights": (cut, "model.safetensors is missing or not what was saved"),
    "cut weights, sealed": (lambda folder: (cut(folder), sealed(folder)), "model.safetensors: no safetensors can be read"),
    "a header of 2^60 bytes": (with_bytes(WEIGHTS, struct.pack("<Q", 2**60) + b"{}"), "model.safetensors: no safetensors can be read"),
    "a pickle": (with_bytes(WEIGHTS, b"\x80\x04\x95"), "model.safetensors: no safetensors can be read"),
    "a pickle beside": (with_bytes(WORDS, b"\x80\x04\x95"), "words.safetensors: no safetensors can be read"),
    "NaN": (with_weights(nan), r"model.safetensors: \['encoder.projections.0.0.weight'\] hold NaN"),
    "a tensor less": (with_weights(dict.popitem), "1 tensors are missing, unknown or of another shape"),
    "a tensor more": (with_weights(lambda tensors: tensors.update(more=torch.zeros(1))), r"1 tensors .* shape: \['more'\]"),
    "a mean that is none": (with_weights(lambda _: None, mean=NAN_MEAN), "the mean .* of its images. expected three numbers"),
    "a spread of 0": (with_weights(lambda _: None, std=[0.0, 0.5, 0.5]), "a spread above 0"),
    "a spread of two": (with_weights(lambda _: None, std=[0.5, 0.5]), "three numbers"),
    "a petabyte of channels": (with_config(dimension=2**40), "tensors are missing, unknown or of another shape|cannot be built"),
    "channels beyond all numbers": (with_config(dimension=2**80), "cannot be built"),
    "layers without end": (with_config(encoder_layers=10**12), "tensors for 1000000000000"),
    "a backbone that nobody has": (with_config(backbone="hf-hub:evil/net"), "cannot be built: unknown backbone 'hf-hub:evil/net'"),
    "settings that are none": (with_bytes(CONFIG, b"[]"), "config.json is no architecture"),
    "settings of no number": (with_bytes(CONFIG, b'{"dropout": NaN}'), "NaN is no number"),
    "classes that are none": (with_bytes(LABELS, b'{"names": [1, 2], "fingerprint": ""}'), "labels.json is no list of classes"),
    "a class of blanks": (with_bytes(LABELS, b'{"names": [" "], "fingerprint": ""}'), "labels.json is no list of classes"),
    "the fingerprint of other classes": (
        with_bytes(LABELS, b'{"names": ["red", "green"], "fingerprint": "0"}'),
        "labels.json states the fingerprint of other classes",
    ),
    "a stage that nobody knows": (lambda folder: sealed(folder, stage="evil"), "a model of stage 'evil'"),
    "a manifest without end": (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "manifest.json is missing or damaged"),
    "a manifest of megabytes": (lambda folder: sealed(folder, more="x" * LARGEST_DOCUMENT), "manifest.json has .* at most"),
    "nothing": (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
}


def test_what_holds_is_loaded(squares, folder):
    model, stored, beside = load(folder)
    assert (stored.stage, stored.label_set, model.config, beside) == ("finetune", squares.LABELS, squares.TINY, {WORDS: folder / WORDS})
    assert torch.equal(model.state_dict()["class_heads.0.0.weight"], load_file(folder / WEIGHTS)["class_heads.0.0.weight"])


@pytest.mark.guarantee("G31", "G32")
@pytest.mark.parametrize("what", HOSTILE)
def test_what_does_not_is_refused(folder, what):
    harm, message = HOSTILE[what]
    harm(folder)
    with pytest.raises(CheckpointRefused, match=message):
        load(folder)
