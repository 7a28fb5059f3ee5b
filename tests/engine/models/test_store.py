"""Models on disk: what comes back is what was saved, and a wrong one is refused before a weight is loaded."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import BadInput, CheckpointRefused, LabelSetMismatch
from engine.files import sha256_of
from engine.label_set import LabelSet
from engine.models import store
from engine.models.detector import Detector
from engine.models.store import load_detector, read_model, save_model, start_from
from engine.models.weight_files import serialized
from engine.training.loop import seeded

OVERLAPPING = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [at, at + 8]} for name, at in (("a", 0), ("b", 4))}).encode()


def made(squares, *, classes=2, seed=0, **changes):
    with seeded(seed):
        return Detector(squares.TINY.model_copy(update=changes), classes)


@pytest.fixture(scope="module")
def saved(squares, tmp_path_factory):
    """A fine-tuned model and a pre-trained one."""
    root = tmp_path_factory.mktemp("models")
    save_model(root / "tuned", made(squares), stage="finetune", label_set=squares.LABELS, metrics={"loss": 1.5}, provenance={"seed": 3})
    save_model(root / "pretrained", made(squares, classes=0), stage="pretrain", label_set=LabelSet(()), metrics={}, provenance={})
    return root


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the fine-tuned model, to be damaged."""
    return shutil.copytree(saved / "tuned", tmp_path / "tuned")


@pytest.fixture
def no_weights_read(monkeypatch):
    """Reading weights fails the test."""

    def read(path):
        pytest.fail(f"{path} was read")

    monkeypatch.setattr(store, "load_file", read)


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def seal(folder):
    """Bring the manifest's hashes up to date: a damage that the hashes do not see."""
    digests = {name: sha256_of(folder / name) for name in (store.WEIGHTS, store.CONFIG, store.LABELS)}
    change_json(folder / store.MANIFEST, sha256=digests)


def test_what_comes_back_is_what_was_saved(squares, saved):
    model, stored = load_detector(saved / "tuned", label_set=squares.LABELS, stage="finetune")
    original = made(squares).state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in model.state_dict().items())
    assert (model.config, stored.config, model.training) == (squares.TINY, squares.TINY, False)
    assert (stored.stage, stored.label_set, stored.manifest["provenance"]) == ("finetune", squares.LABELS, {"seed": 3})
    assert json.loads((saved / "tuned" / store.METRICS).read_text()) == {"loss": 1.5}


@pytest.mark.guarantee("G31")
@pytest.mark.usefixtures("no_weights_read")
@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (["red", "blue"], r"lacks \['blue'\]; the model tuned has \['green'\] in addition"),
        (["green", "red"], r"the order differs: \['red', 'green'\]"),
        (["red"], r"has \['green'\] in addition"),
        (["red", "green", "blue"], r"lacks \['blue'\]"),
    ],
    ids=["other names", "other order", "superset", "subset"],
)
def test_a_model_of_other_classes_is_refused_by_name(saved, names, difference):
    with pytest.raises(LabelSetMismatch, match=difference) as refused:
        load_detector(saved / "tuned", label_set=LabelSet.of(names))
    assert refused.value.exit_code == 3


def flip_weights(folder):
    content = bytearray((folder / store.WEIGHTS).read_bytes())
    content[-7] ^= 4
    (folder / store.WEIGHTS).write_bytes(content)


def cut_weights(folder):
    content = (folder / store.WEIGHTS).read_bytes()
    (folder / store.WEIGHTS).write_bytes(content[: len(content) // 2])


DAMAGES = {
    "flipped weights": (flip_weights, "model.safetensors is missing or not what was saved"),
    "cut weights": (cut_weights, "model.safetensors is missing or not what was saved"),
    "no weights": (lambda folder: (folder / store.WEIGHTS).unlink(), "model.safetensors is missing"),
    "no manifest": (lambda folder: (folder / store.MANIFEST).unlink(), "manifest.json is missing or damaged"),
    "cut manifest": (lambda folder: (folder / store.MANIFEST).write_text('{"format": 1'), "manifest.json is missing or damaged"),
    "binary manifest": (lambda folder: (folder / store.MANIFEST).write_bytes(b"\xff\xfe"), "manifest.json is missing or damaged"),
    "another manifest": (lambda folder: (folder / store.MANIFEST).write_text("[]"), "manifest.json is missing or damaged"),
    "newer format": (lambda folder: change_json(folder / store.MANIFEST, format=2), "model format 2. expected format 1"),
    "renamed classes": (lambda folder: change_json(folder / store.LABELS, names=["red", "blue"]), "labels.json is missing or not what"),
    "no folder": (shutil.rmtree, "manifest.json is missing"),
}


@pytest.mark.guarantee("G31")
@pytest.mark.usefixtures("no_weights_read")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_newer_model_is_refused(folder, squares, damage):
    harm, message = DAMAGES[damage]
    harm(folder)
    for load in (load_detector, lambda path: start_from(SimpleNamespace(config=squares.TINY), path)):
        with pytest.raises(CheckpointRefused, match=message) as refused:
            load(folder)
        assert refused.value.exit_code == 3


@pytest.mark.guarantee("G31")
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "words.bin").write_bytes(b"other"), "words.bin is missing or not what was saved"),
        (lambda folder: (folder / "words.bin").unlink(), "words.bin is missing"),
        (
            lambda folder: change_json(folder / store.MANIFEST, sha256={"../tuned/words.bin": sha256_of(folder / "words.bin")}),
            "is missing or not what was saved",
        ),
    ],
    ids=["changed", "gone", "outside"],
)
def test_what_lies_beside_the_weights_is_vouched_for_too(squares, tmp_path, harm, message):
    (tmp_path / "words").write_bytes(b"words")
    beside = {"words.bin": tmp_path / "words"}
    folder = tmp_path / "tuned"
    save_model(folder, made(squares), stage="finetune", label_set=squares.LABELS, metrics={}, provenance={}, beside=beside)
    assert read_model(folder).stage == "finetune"
    harm(folder)
    with pytest.raises(CheckpointRefused, match=message):
        read_model(folder)


@pytest.mark.guarantee("G31")
@pytest.mark.usefixtures("no_weights_read")
def test_an_architecture_of_a_later_version_is_refused_by_its_setting(folder):
    change_json(folder / store.CONFIG, mask_head=True)
    seal(folder)
    with pytest.raises(CheckpointRefused, match="does not know: unknown key 'mask_head'"):
        load_detector(folder)


@pytest.mark.guarantee("G31")
@pytest.mark.usefixtures("no_weights_read")
@pytest.mark.parametrize(("name", "stage", "other"), [("tuned", "finetune", "pretrain"), ("pretrained", "pretrain", "finetune")])
def test_a_model_of_another_stage_is_refused(saved, name, stage, other):
    with pytest.raises(CheckpointRefused, match=f"a model of stage '{stage}'. expected one of stage '{other}'"):
        load_detector(saved / name, stage=other)


@pytest.mark.guarantee("G31")
@pytest.mark.usefixtures("no_weights_read")
@pytest.mark.parametrize("changes", [{"dimension": 48}, {"decoder_layers": 1}, {"backbone": "test_resnet"}, {"points": 1, "heads": 2}])
def test_another_architecture_is_no_start(squares, saved, changes):
    for name in ("tuned", "pretrained"):
        with pytest.raises(CheckpointRefused) as refused:
            start_from(made(squares, **changes), saved / name)
        assert refused.value.found.endswith(", ".join(f"{key} = {getattr(squares.TINY, key)!r}" for key in sorted(changes)))
        assert refused.value.expected == ", ".join(f"{key} = {changes[key]!r}" for key in sorted(changes))


@pytest.mark.guarantee("G31")
@pytest.mark.parametrize(
    ("harm", "difference"),
    [
        (lambda weights: {**weights, "class_heads.0.0.weight": torch.zeros(3, 32)}, r"\['class_heads.0.0.weight'\] of another shape"),
        (
            lambda weights: {name: tensor for name, tensor in weights.items() if name != "decoder.box_position.0.bias"},
            r"\['decoder.box_position.0.bias'\] missing",
        ),
        (lambda weights: {**weights, "mask_head.weight": torch.zeros(1)}, r"\['mask_head.weight'\] unknown"),
    ],
    ids=["another shape", "one missing", "one more"],
)
def test_tensors_that_do_not_fit_are_refused_by_name(folder, harm, difference):
    save_file(harm(load_file(folder / store.WEIGHTS)), folder / store.WEIGHTS)
    seal(folder)
    with pytest.raises(CheckpointRefused, match=difference):
        load_detector(folder)


@pytest.mark.guarantee("G31")
def test_a_fine_tuned_start_with_other_classes_leaves_every_weight_as_it_was(squares, saved):
    model = made(squares, classes=3, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointRefused, match="of another shape"):
        start_from(model, saved / "tuned")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_pre_trained_start_gives_all_but_the_heads_of_the_classes(squares, saved):
    model = made(squares, classes=3, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from(model, saved / "pretrained")
    source = made(squares, classes=0).state_dict()
    for name, tensor in model.state_dict().items():
        own = name.startswith(("proposals.", "region_stage.", "query_content.", "class_heads."))
        assert torch.equal(tensor, before[name] if own else source[name]), name


def test_a_start_may_see_larger_images_with_more_queries(squares, saved):
    model = made(squares, image_size=96, num_queries=30, seed=1)
    assert start_from(model, saved / "tuned").stage == "finetune"
    assert torch.equal(model.class_heads[0][0].weight, made(squares).class_heads[0][0].weight)


def test_a_start_may_be_supervised_otherwise(squares, saved):
    model = made(squares, supervision="one-to-one", class_loss="focal", dropout=0.1, region_weight=1.0, seed=1)
    assert start_from(model, saved / "tuned").stage == "finetune"
    assert torch.equal(model.class_heads[0][0].weight, made(squares).class_heads[0][0].weight)


def test_saving_again_replaces_the_whole_folder(squares, folder):
    (folder / "stray").write_text("x")
    save_model(folder, made(squares, seed=5), stage="finetune", label_set=squares.LABELS, metrics={}, provenance={})
    assert not (folder / "stray").exists()
    assert read_model(folder).manifest["provenance"] == {}
    assert [path.name for path in folder.parent.iterdir()] == ["tuned"]


def test_a_model_keeps_the_normalisation_that_it_was_trained_with(squares, folder):
    said = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    (folder / store.WEIGHTS).write_bytes(serialized(load_file(folder / store.WEIGHTS), said))
    seal(folder)
    started = made(squares)
    start_from(started, folder)
    for model in (load_detector(folder)[0], started):
        assert model.mean.flatten().tolist() == pytest.approx(said["mean"])
        assert model.std.flatten().tolist() == pytest.approx(said["std"])


def test_a_model_from_before_it_was_stated_was_normalised_by_halves(folder):
    save_file(load_file(folder / store.WEIGHTS), folder / store.WEIGHTS)
    seal(folder)
    model, _ = load_detector(folder)
    assert model.mean.unique().tolist() == model.std.unique().tolist() == [0.5]


def test_the_same_model_is_the_same_bytes(squares, saved, tmp_path):
    save_model(tmp_path / "again", made(squares), stage="finetune", label_set=squares.LABELS, metrics={}, provenance={})
    assert (tmp_path / "again" / store.WEIGHTS).read_bytes() == (saved / "tuned" / store.WEIGHTS).read_bytes()


@pytest.mark.guarantee("G32")
@pytest.mark.parametrize(
    "content",
    [
        (2**60).to_bytes(8, "little") + b"{}",
        len(OVERLAPPING).to_bytes(8, "little") + OVERLAPPING + bytes(12),
        b"\x80\x04\x95",
    ],
    ids=["a header of 2^60 bytes", "overlapping offsets", "a pickle"],
)
def test_hostile_weights_with_a_manifest_of_their_own_are_refused(folder, content):
    (folder / store.WEIGHTS).write_bytes(content)
    seal(folder)
    with pytest.raises(CheckpointRefused, match=r"model.safetensors is no safetensors file"):
        load_detector(folder)


MATRIX = {
    "another backbone": ({"backbone": "test_resnet"}, {}, r"backbone = 'test_efficientnet'.* expected backbone = 'test_resnet'"),
    "another width": ({"dimension": 48}, {}, r"dimension = 32.* expected dimension = 48"),
    "other classes": ({}, {"label_set": ["red", "blue"]}, r"lacks \['blue'\]"),
    "another order": ({}, {"label_set": ["green", "red"]}, r"the order differs"),
    "more classes": ({}, {"label_set": ["red", "green", "blue"]}, r"lacks \['blue'\]"),
    "another stage": ({}, {"stage": "pretrain"}, r"a model of stage 'finetune'"),
    "a newer format": ({}, {"format": 99}, r"model format 99. expected format 1"),
    "a newer architecture": ({}, {"config": "mask_head"}, r"unknown key 'mask_head'"),
}


@pytest.mark.guarantee("G31")
@pytest.mark.usefixtures("no_weights_read")
@pytest.mark.parametrize("case", MATRIX)
def test_what_does_not_belong_is_refused_by_its_difference_and_nothing_is_changed(squares, folder, case):
    changes, wrong, message = MATRIX[case]
    if "format" in wrong:
        change_json(folder / store.MANIFEST, format=wrong["format"])
    if "config" in wrong:
        change_json(folder / store.CONFIG, **{wrong["config"]: True})
        seal(folder)
    model = made(squares, **changes)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if "label_set" in wrong or "stage" in wrong:
        names = wrong.get("label_set")
        take = partial(load_detector, folder, label_set=names and LabelSet.of(names), stage=wrong.get("stage"))
    else:
        take = partial(start_from, model, folder)
    with pytest.raises(BadInput, match=message):
        take()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
