"""Training checkpoints: whole or absent, verified by hash, the last good one always found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import CheckpointRefused
from engine.files import atomic_directory, sha256_of, sweep_temporary, write_json

__all__ = ["Checkpoint", "CheckpointStore"]

POINTER = "last-good.json"


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
    as a whole. ``last-good.json`` then names it, so that one that is lost altogether is missed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.passed_over: tuple[str, ...] = ()
        """What the last call of :meth:`load_last` could not use, the newest first: name and reason."""
        directory.mkdir(parents=True, exist_ok=True)
        sweep_temporary(directory)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, then drop those older than the one before, and any of a later step: those were passed over."""
        name = f"step-{step:08d}"
        with atomic_directory(self.directory / name) as temporary:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary / "state.safetensors")
            digest = sha256_of(temporary / "state.safetensors")
            seal = _seal(step, digest, facts)
            write_json(temporary / "state.json", {"step": step, "sha256": digest, "facts": dict(facts), "seal": seal})
        write_json(self.directory / POINTER, {"checkpoint": name, "seal": seal})
        folders = sorted(self.directory.glob("step-*"))
        for stale in [folder for folder in folders if folder.name > name] + [folder for folder in folders if folder.name <= name][:-2]:
            shutil.rmtree(stale, ignore_errors=True)

    def load_last(self) -> Checkpoint | None:
        """The last checkpoint that is whole; None where there is none. :attr:`passed_over` says which were not, and why."""
        passed_over: list[str] = []
        found = None
        for folder in sorted(self.directory.glob("step-*"), reverse=True):
            try:
                found = _load(folder)
                break
            except CheckpointRefused as damage:
                passed_over.append(damage.found)
        lost = self._lost()
        self.passed_over = (*([lost] if lost else []), *passed_over)
        return found

    def _lost(self) -> str | None:
        """What is wrong with the checkpoint that the pointer names, if it is not there at all; or with the pointer."""
        path = self.directory / POINTER
        if not path.exists():
            return None
        try:
            name = json.loads(path.read_text())["checkpoint"]
            present = (self.directory / name).is_dir()
        except (OSError, ValueError, KeyError, TypeError):
            return f"{POINTER} is damaged"
        return None if present else f"{name} is not there any more"

    def remove(self) -> None:
        """Delete the run's checkpoints, once its model is saved."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _load(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``.

    Raises:
        CheckpointRefused: anything of it is missing or not what was saved.
    """
    state = folder / "state.safetensors"
    try:
        document = json.loads((folder / "state.json").read_text())
        step, digest, facts, seal = (document[key] for key in ("step", "sha256", "facts", "seal"))
        if seal != _seal(step, digest, facts):
            raise CheckpointRefused(f"{folder.name}: state.json is not what was saved (its seal differs)")
        if sha256_of(state) != digest:
            raise CheckpointRefused(f"{folder.name}: state.safetensors is not what was saved (sha256 differs)")
        return Checkpoint(step, load_file(state), facts)
    except OSError as missing:
        raise CheckpointRefused(f"{folder.name}: a file is missing or cannot be read ({missing.strerror})") from missing
    except (ValueError, KeyError, TypeError, SafetensorError) as damage:
        raise CheckpointRefused(f"{folder.name}: state.json is damaged") from damage
