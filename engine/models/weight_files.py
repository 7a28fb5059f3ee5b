"""Weights from files that others wrote: read without running anything in them, and matched by name and shape."""

from __future__ import annotations

import argparse
import json
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engine.errors import CheckpointRefused, UsageError

__all__ = ["PICKLES", "Fitted", "fit_weights", "read_metadata", "read_tensors", "serialized"]

PICKLES = (".pt", ".pth", ".bin", ".tar", ".ckpt")
"""Endings of files that torch pickles."""
_DEEPEST = 8
_SAID = "tilehawk"


class Fitted(NamedTuple):
    """Weights under the names of the module that they are for, and what was left over."""

    weights: dict[str, Tensor]
    prefix: str
    """what stood before every name in the file"""
    unused: tuple[str, ...]
    """names in the file that the module has no place for"""


def _damaged(path: Path, found: str) -> CheckpointRefused:
    return CheckpointRefused(f"{path.name}: {found}", expected="a whole safetensors file", remedy="Bring back a good copy of the file")


def serialized(tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> bytes:
    """A safetensors file of ``tensors`` that says ``said`` (JSON-ready) of itself; the same in gives the same bytes out."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, {_SAID: json.dumps(dict(said), sort_keys=True)})


def read_metadata(path: Path) -> dict[str, Any]:
    """What a file of :func:`serialized` says of itself; nothing where somebody else wrote it.

    Raises:
        CheckpointRefused: it is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as opened:
            return dict(json.loads((opened.metadata() or {}).get(_SAID, "{}")))
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as damage:
        raise _damaged(path, f"no safetensors can be read from it ({damage})") from damage


def read_tensors(path: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by their names; those of nested dictionaries by their names joined with dots.

    Args:
        path: a safetensors file, or one that torch saved.
        allow_pickle: whether one that torch saved may be read. Only tensors and plain containers come out of it
            (``weights_only=True``), beside the command line that some repositories keep in their files; one that asks for anything else is
            refused.

    Raises:
        CheckpointRefused: it is missing, damaged, of another kind, holds no tensor, or a tensor with NaN or infinite values.
        UsageError: it is a pickle and may not be one.
    """
    pickled = path.suffix.lower() in PICKLES
    if not path.is_file():
        raise CheckpointRefused(f"no file {path}", expected="a file of weights", remedy="Check the path")
    if not pickled and path.suffix.lower() != ".safetensors":
        raise CheckpointRefused(f"{path.name} ends in {path.suffix!r}", expected=f".safetensors, or one of {', '.join(PICKLES)}")
    if pickled and not allow_pickle:
        raise UsageError(
            f"{path.name} is a pickle",
            expected="a safetensors file",
            remedy="If you trust where it comes from: tilehawk models import FILE --allow-pickle (only tensors are read from it)",
        )
    tensors = _unpickled(path) if pickled else _safe(path)
    if not tensors:
        raise CheckpointRefused(f"{path.name} holds no tensor", expected="the weights of a model")
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointRefused(f"{path.name}: {broken[:3]} hold NaN or infinite values", expected="finite weights")
    return tensors


def _safe(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as damage:
        raise _damaged(path, f"no safetensors can be read from it ({damage})") from damage


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refused:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(refused))
        found = f"asks for {wanted[1]}, which is no tensor" if wanted else "is damaged, or no file that torch saved"
        raise CheckpointRefused(
            f"{path.name} {found}",
            expected="tensors and plain containers alone",
            remedy="Save its state dict as safetensors where you trust it",
        ) from refused
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError) as damage:
        raise _damaged(path, f"torch cannot read it ({damage})") from damage
    return dict(_flat(document, ""))


def _flat(document: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(document, Tensor):
        yield prefix, document.detach()
    elif isinstance(document, Mapping) and depth < _DEEPEST:
        for name, value in document.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name), depth + 1)


def _canonical(name: str) -> str:
    """Timm's feature networks write ``stages_0`` for what the whole model calls ``stages.0``."""
    return name.replace("_", ".")


def fit_weights(source: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, file: str, module: str, prefix: str | None = None) -> Fitted:
    """The tensors of ``source`` that ``wanted`` names, whatever prefix (``module.``, ``backbone.``, …) stands before all of them.

    Args:
        source: what a file holds.
        wanted: a state dict; counters of batches need not be in the file.
        file: its name, for messages.
        module: what the weights are for, for messages.
        prefix: what stands before every name; None finds it.

    Raises:
        CheckpointRefused: not every tensor is there in its shape, the first that are not being named, or two sets of them are.
    """
    needed = {_canonical(name): name for name in wanted if not name.endswith("num_batches_tracked")}
    assert len(needed) == sum(not name.endswith("num_batches_tracked") for name in wanted)
    chosen = _prefix(source, needed, file) if prefix is None else prefix
    named = {_canonical(name.removeprefix(chosen)): name for name in source if name.startswith(chosen)}
    missing = [name for key, name in needed.items() if key not in named]
    reshaped = [
        f"{name} {tuple(source[named[key]].shape)} for {tuple(wanted[name].shape)}"
        for key, name in needed.items()
        if key in named and source[named[key]].shape != wanted[name].shape
    ]
    if missing or reshaped:
        matched = len(needed) - len(missing) - len(reshaped)
        raise CheckpointRefused(
            f"{file}: {matched} of {len(needed)} tensors of {module} match; missing {missing[:3]}, of another shape {reshaped[:3]}",
            expected=f"all {len(needed)} of them",
            remedy="Name the backbone that the file was made with",
        )
    weights = {name: source[named[key]].to(wanted[name].dtype) for key, name in needed.items()}
    used = {named[key] for key in needed}
    return Fitted(weights, chosen, tuple(name for name in source if name not in used and not name.endswith("num_batches_tracked")))


def _prefix(source: Mapping[str, Tensor], needed: Mapping[str, str], file: str) -> str:
    """The prefix under which most of ``needed`` is found."""
    found: Counter[str] = Counter()
    for name in source:
        parts = name.split(".")
        for start in range(len(parts)):
            if _canonical(".".join(parts[start:])) in needed:
                found["".join(f"{part}." for part in parts[:start])] += 1
    best = [prefix for prefix, count in found.items() if count == max(found.values())]
    if len(best) > 1 and found[best[0]] == len(needed):
        raise CheckpointRefused(
            f"{file} holds {len(best)} sets of these weights, below {best}", expected="one", remedy=f"Choose: --prefix {best[0]!r}"
        )
    return best[0] if best else ""
