"""Training checkpoints: whole or absent, verified by hash, the last good one always found."""

from __future__ import annotations

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


class CheckpointStore:
    """The checkpoints of one run, in a folder of its own; the newest two are kept.

    A checkpoint is a folder ``step-NNNNNNNN`` with ``state.safetensors`` and ``state.json`` (its hash inside), renamed into place as
    a whole; ``last.json`` points to the last good one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        sweep_temporary(directory)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, point to it, then drop those older than the one before."""
        name = f"step-{step:08d}"
        with atomic_directory(self.directory / name) as temporary:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary / "state.safetensors")
            digest = sha256_of(temporary / "state.safetensors")
            write_json(temporary / "state.json", {"step": step, "sha256": digest, "facts": dict(facts)})
        write_json(self.directory / "last.json", {"name": name})
        for old in sorted(self.directory.glob("step-*"))[:-2]:
            shutil.rmtree(old, ignore_errors=True)

    def load_last(self) -> Checkpoint | None:
        """The last checkpoint that is whole; damaged ones are passed over. None where there is none."""
        names = sorted((path.name for path in self.directory.glob("step-*")), reverse=True)
        pointer = self.directory / "last.json"
        if pointer.exists():
            pointed = json.loads(pointer.read_text())["name"]
            names = [name for name in names if name <= pointed] or names
        for name in names:
            checkpoint = self._load(self.directory / name)
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
        except json.JSONDecodeError:
            return None
        if sha256_of(state) != document.get("sha256"):
            return None
        return Checkpoint(document["step"], load_file(state), document["facts"])

    def remove(self) -> None:
        """Delete the run's checkpoints, once its model is saved."""
        shutil.rmtree(self.directory, ignore_errors=True)
