"""A model on disk: weights, architecture, classes, metrics and a manifest that vouches for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.errors import BadInput, CheckpointRefused, UsageError
from engine.files import atomic_directory, sha256_of, write_bytes, write_json
from engine.label_set import LabelSet
from engine.models.architecture import BEFORE_REGIONS
from engine.models.detector import Detector, DetectorConfig
from engine.models.weight_files import read_metadata, serialized

__all__ = ["StoredModel", "load_detector", "read_model", "replaced_by_fine_tuning", "save_model", "start_from"]

FORMAT = 1
STAGES = ("pretrain", "finetune", "one-shot")
WEIGHTS, CONFIG, LABELS, METRICS, MANIFEST = "model.safetensors", "config.json", "labels.json", "metrics.json", "manifest.json"
_NO_DOCUMENT = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What reading one that is missing or damaged raises."""
_BEFORE_IT_WAS_SAID = [0.5, 0.5, 0.5]
"""Mean and spread of the images of models that do not state theirs."""
_WITHOUT_WEIGHTS = frozenset(
    {
        "backbone_weights",
        "frozen_stages",
        "image_size",
        "one_shot",
        "dropout",
        "num_queries",
        "proposal_candidates",
        "proposal_iou",
        "proposal_loss",
        "proposal_boxes",
        "denoising_label_noise",
        "denoising_box_noise",
        "region_truth",
        "region_noise",
        "region_boxes",
        "region_looks",
        "further_looks",
        "region_weight",
        "decoder_weight",
        "decoder_share",
        "supervision",
        "positive_iou",
        "class_loss",
        "no_object_weight",
    }
)
"""Settings that may differ from those of the model that a run starts from: they say how it is trained and how much it looks at."""
_REPLACED_BY_FINE_TUNING = ("proposals.", "region_stage.", "query_content.", "class_heads.", "object_queries.", "denoising.")
"""Parts that a model without classes does not have."""
_BOUND_TO_CLASSES = ("proposals.classes.", "region_stage.classes.", "class_heads.", "denoising.")
"""Parts that speak of the classes of pre-training, where there were some."""


def replaced_by_fine_tuning(classes: int) -> tuple[str, ...]:
    """How the names of weights begin that a model takes anew after pre-training with so many classes."""
    return _BOUND_TO_CLASSES if classes else _REPLACED_BY_FINE_TUNING


@dataclass(frozen=True)
class StoredModel:
    """What a model's folder says of it, weights not loaded."""

    directory: Path
    stage: str
    """pretrain, finetune or one-shot"""
    config: DetectorConfig
    label_set: LabelSet
    """empty for a model without classes"""
    manifest: dict[str, Any]


def save_model(
    directory: Path,
    model: Detector,
    *,
    stage: str,
    label_set: LabelSet,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    beside: Mapping[str, Path] | None = None,
) -> None:
    """Write the model's folder as a whole, replacing an older one.

    Args:
        directory: the folder to make.
        model: on any device.
        stage: "pretrain", "finetune" or "one-shot".
        label_set: as many classes as the model has.
        metrics: JSON-ready numbers.
        provenance: JSON-ready: stage configuration, seed, data hash, parent.
        beside: files to keep in the folder, by the name that they get there.
    """
    assert len(label_set) == model.num_classes
    with atomic_directory(directory) as folder:
        said = {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
        write_bytes(folder / WEIGHTS, serialized(model.state_dict(), said))
        write_json(folder / CONFIG, model.config.model_dump(mode="json"))
        write_json(folder / LABELS, {"names": list(label_set.names), "fingerprint": label_set.fingerprint})
        write_json(folder / METRICS, dict(metrics))
        kept = dict(beside or {})
        for name, path in kept.items():
            write_bytes(folder / name, path.read_bytes())
        manifest = {
            "format": FORMAT,
            "stage": stage,
            "sha256": {name: sha256_of(folder / name) for name in (WEIGHTS, CONFIG, LABELS, *kept)},
            "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")},
            "provenance": dict(provenance),
        }
        write_json(folder / MANIFEST, manifest)


def _refuse(directory: Path, found: str, expected: str = "") -> CheckpointRefused:
    return CheckpointRefused(f"{directory.name}: {found}", expected=expected, remedy="Train it again, or bring back a good copy")


def _document(path: Path) -> Any:
    """What a JSON file holds; NaN and infinities, which are none, are refused with ValueError."""

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no number")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)


def read_model(directory: Path) -> StoredModel:
    """Read a model's folder and check every file against the manifest.

    Raises:
        CheckpointRefused: no model there, a file missing, changed or cut off, or a newer format.
    """
    try:
        manifest = _document(directory / MANIFEST)
        stage, digests, version = manifest["stage"], dict(manifest["sha256"]), manifest["format"]
    except _NO_DOCUMENT as damage:
        raise _refuse(directory, f"{MANIFEST} is missing or damaged", "a folder that Tilehawk saved a model in") from damage
    if version != FORMAT:
        raise _refuse(directory, f"model format {version}", f"format {FORMAT}")
    if stage not in STAGES:
        raise _refuse(directory, f"a model of stage {stage!r}", f"one of {', '.join(STAGES)}")
    for name in dict.fromkeys((WEIGHTS, CONFIG, LABELS, *digests)):
        path = directory / name
        if Path(name).name != name or not path.is_file() or sha256_of(path) != digests.get(name):
            raise _refuse(directory, f"{name} is missing or not what was saved (sha256 differs)", "the file named in the manifest")
    try:
        config = DetectorConfig.from_mapping(BEFORE_REGIONS | _document(directory / CONFIG))
    except UsageError as unknown:
        raise _refuse(directory, f"an architecture that this Tilehawk does not know: {unknown.found}", unknown.expected) from unknown
    except _NO_DOCUMENT as damage:
        raise _refuse(directory, f"{CONFIG} is no architecture ({damage})", "an object of settings") from damage
    try:
        said = _document(directory / LABELS)
        labels = LabelSet.of(said["names"])
        known = said["fingerprint"] == labels.fingerprint
    except (*_NO_DOCUMENT, AttributeError, BadInput) as damage:
        raise _refuse(directory, f"{LABELS} is no list of classes ({damage})", "names and their fingerprint") from damage
    if not known:
        raise _refuse(directory, f"{LABELS} states the fingerprint of other classes", labels.fingerprint)
    return StoredModel(directory, stage, config, labels, manifest)


def _fill(model: Detector, stored: StoredModel, *, leave_out: tuple[str, ...] = ()) -> None:
    path = stored.directory / WEIGHTS
    try:
        held, said = load_file(path), read_metadata(path)
    except SafetensorError as damage:
        raise _refuse(stored.directory, f"{WEIGHTS} is no safetensors file ({damage})") from damage
    weights = {name: tensor for name, tensor in held.items() if not name.startswith(leave_out)}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(leave_out)}
    missing, extra = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    reshaped = [name for name in wanted if name in weights and wanted[name].shape != weights[name].shape]
    if missing or extra or reshaped:
        raise _refuse(
            stored.directory,
            f"its tensors do not fit: {missing[:3]} missing, {extra[:3]} unknown, {reshaped[:3]} of another shape",
            "a model of the same architecture and number of classes",
        )
    colours = {key: _colour(stored, key, said.get(key, _BEFORE_IT_WAS_SAID)) for key in ("mean", "std")}
    model.load_state_dict(weights, strict=False)
    for buffer, key in ((model.mean, "mean"), (model.std, "std")):
        buffer.copy_(torch.tensor(colours[key]).view_as(buffer))


def _colour(stored: StoredModel, key: str, stated: object) -> list[float]:
    least = 0.0 if key == "std" else -math.inf
    if not (isinstance(stated, list) and len(stated) == 3 and all(isinstance(each, float) and least < each < math.inf for each in stated)):
        raise _refuse(stored.directory, f"{WEIGHTS} states the {key} {stated!r} of its images", "three numbers, a spread above 0")
    return stated


def load_detector(directory: Path, *, label_set: LabelSet | None = None, stage: str | None = None) -> tuple[Detector, StoredModel]:
    """The model in ``directory``, in evaluation mode on the CPU.

    Args:
        directory: its folder.
        label_set: the classes it must have; None takes whatever it has.
        stage: the stage it must come from; None takes either.

    Raises:
        CheckpointRefused: damaged, or of another stage.
        LabelSetMismatch: other classes, with the difference by name.
    """
    stored = read_model(directory)
    if stage is not None and stored.stage != stage:
        raise _refuse(directory, f"a model of stage {stored.stage!r}", f"one of stage {stage!r}")
    if label_set is not None:
        label_set.require_equal(stored.label_set, ours="this workspace", theirs=f"the model {directory.name}")
    model = Detector(stored.config.model_copy(update={"backbone_weights": "none"}), len(stored.label_set))
    model.config = stored.config
    _fill(model, stored)
    return model.eval(), stored


def _left_out(model: Detector, stored: StoredModel) -> tuple[str, ...]:
    """How the names of weights begin that are not taken over."""
    classes = min(len(stored.label_set), model.num_classes)
    if stored.config.one_shot != model.config.one_shot:
        return (*replaced_by_fine_tuning(classes), "condition.")
    if stored.stage != "pretrain" or (classes and model.config.one_shot):
        return ()
    return replaced_by_fine_tuning(classes)


def start_from(model: Detector, directory: Path) -> StoredModel:
    """Give ``model`` the weights of a stored one: all of them after fine-tuning, all but the class-bound heads after pre-training.

    Between a detector of known classes and one that is asked by query patches, only what both have and what knows no class is given.

    Raises:
        CheckpointRefused: damaged, of another architecture (differing settings are named), or with another number of classes.
    """
    stored = read_model(directory)
    ours, theirs = model.config.model_dump(), stored.config.model_dump()
    differing = sorted(key for key in ours if key not in _WITHOUT_WEIGHTS and ours[key] != theirs[key])
    if differing:
        raise _refuse(
            directory,
            "another architecture: " + ", ".join(f"{key} = {theirs[key]!r}" for key in differing),
            ", ".join(f"{key} = {ours[key]!r}" for key in differing),
        )
    _fill(model, stored, leave_out=_left_out(model, stored))
    return stored
