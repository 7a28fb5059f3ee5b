"""Training checkpoints: whole or absent, verified by hash, the last good one always found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.files import atomic_directory, sha256_of, sweep_temporary, write_json

__all__ = ["Checkpoint", "CheckpointStore"]


class Checkpoint(NamedTuple):
    """The state of a run after ``step`` steps."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def _seal(step: int, digest: str, facts: Mapping[str, Any]) -> str:
    """Hash of all that a checkpoint says, the hash of its tensors included."""
    return hashlib.sha256(json.dumps([step, digest, dict(facts)], sort_keys=True).encode()).hexdigest()


class CheckpointStore:
    """The checkpoints of one run, in a folder of its own; the newest two are kept.

    A checkpoint is a folder ``step-NNNNNNNN`` with ``state.safetensors`` and ``state.json`` (their hashes inside), renamed into place
    as a whole.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        sweep_temporary(directory)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, then drop those older than the one before."""
        name = f"step-{step:08d}"
        with atomic_directory(self.directory / name) as temporary:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary / "state.safetensors")
            digest = sha256_of(temporary / "state.safetensors")
            document = {"step": step, "sha256": digest, "facts": dict(facts), "seal": _seal(step, digest, facts)}
            write_json(temporary / "state.json", document)
        for old in sorted(self.directory.glob("step-*"))[:-2]:
            shutil.rmtree(old, ignore_errors=True)

    def load_last(self) -> Checkpoint | None:
        """The last checkpoint that is whole; damaged ones are passed over. None where there is none."""
        for folder in sorted(self.directory.glob("step-*"), reverse=True):
            checkpoint = self._load(folder)
            if checkpoint is not None:
                return checkpoint
        return None

    @staticmethod
    def _load(folder: Path) -> Checkpoint | None:
        state, facts = folder / "state.safetensors", folder / "state.json"
        if not (state.is_file() and facts.is_file()):
            return None
        try:
            document = json.loads(facts.read_text())
            step, digest, said, seal = (document[key] for key in ("step", "sha256", "facts", "seal"))
            whole = seal == _seal(step, digest, said) and sha256_of(state) == digest
        except (ValueError, KeyError, TypeError):
            return None
        return Checkpoint(step, load_file(state), said) if whole else None

    def remove(self) -> None:
        """Delete the run's checkpoints, once its model is saved."""
        shutil.rmtree(self.directory, ignore_errors=True)
