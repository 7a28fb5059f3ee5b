"""A model's folder that comes from elsewhere: whatever its manifest says, it is held against what a model must be before it is used."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import CheckpointRefused, UsageError
from engine.models.detector import Detector
from engine.models.store import CONFIG, LABELS, MANIFEST, WEIGHTS, StoredModel, load_detector, read_model
from engine.models.weight_files import read_tensors

__all__ = ["load_foreign"]

LARGEST_DOCUMENT = 2**20
"""Bytes of a manifest, an architecture or a list of classes, at most; ours have a few thousand."""


def load_foreign(directory: Path, *, beside: frozenset[str]) -> tuple[Detector, StoredModel, dict[str, Path]]:
    """The model in ``directory``, which somebody else may have written, and the files beside its weights.

    Args:
        directory: the folder; only files that lie in it are read.
        beside: names of safetensors files that a model may have beside its weights.

    Returns:
        The model in evaluation mode, what its folder says of it, and the files beside its weights by name.

    Raises:
        CheckpointRefused: a file is missing, no plain file, not what the manifest says, or none that belongs to a model; the weights are no
            safetensors, not finite, or not those of the architecture that is stated.
    """
    for name in (MANIFEST, CONFIG, LABELS, WEIGHTS, *sorted(beside)):
        _require_plain(directory, name)
    stored = read_model(directory)
    strange = sorted(set(stored.manifest["sha256"]) - {WEIGHTS, CONFIG, LABELS} - beside)
    if strange:
        raise _refuse(
            directory, f"the file {strange[0]!r}", f"nothing beside {WEIGHTS} but {', '.join(sorted(beside)) or 'its description'}"
        )
    kept = {name: directory / name for name in sorted(beside & set(stored.manifest["sha256"]))}
    for path in kept.values():
        read_tensors(path)
    _require_fit(stored, read_tensors(directory / WEIGHTS))
    return load_detector(directory)[0], stored, kept


def _require_fit(stored: StoredModel, held: Mapping[str, Tensor]) -> None:
    """Hold the weights against the architecture before any memory is taken for it."""
    config = stored.config.model_copy(update={"backbone_weights": "none"})
    expected = "the weights of the architecture that its config.json states"
    if config.encoder_layers + config.decoder_layers > len(held):
        raise _refuse(stored.directory, f"{len(held)} tensors for {config.encoder_layers} + {config.decoder_layers} layers", expected)
    try:
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in Detector(config, len(stored.label_set)).state_dict().items()}
    except (UsageError, ArithmeticError, RuntimeError, TypeError, ValueError) as impossible:
        found = impossible.found if isinstance(impossible, UsageError) else str(impossible)
        raise _refuse(stored.directory, f"an architecture that cannot be built: {found}", "one that Tilehawk trained") from impossible
    differing = sorted(name for name in {*wanted, *held} if name not in held or held[name].shape != wanted.get(name))
    if differing:
        raise _refuse(stored.directory, f"{len(differing)} tensors are missing, unknown or of another shape: {differing[:3]}", expected)


def _refuse(directory: Path, found: str, expected: str) -> CheckpointRefused:
    return CheckpointRefused(
        f"{directory.name}: {found}", expected=expected, remedy="Copy the whole folder again from models/ of the workspace that made it"
    )


def _require_plain(directory: Path, name: str) -> None:
    """A file that is missing is told of by :func:`~engine.models.store.read_model`, if the manifest names it."""
    try:
        found = (directory / name).lstat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(directory, f"{name} is {'a link' if stat.S_ISLNK(found.st_mode) else 'no file'}", "a plain file")
    if not name.endswith(".safetensors") and found.st_size > LARGEST_DOCUMENT:
        raise _refuse(directory, f"{name} has {found.st_size} bytes", f"{LARGEST_DOCUMENT} at most")
