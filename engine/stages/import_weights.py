"""``models import``: weights of a backbone, brought into the workspace as one checked safetensors file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from timm.data import resolve_model_data_config

from engine.catalog import ledger
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.files import write_bytes
from engine.models.backbone import feature_network
from engine.models.weight_files import fit_weights, read_tensors, serialized
from engine.progress import Progress, silent

__all__ = ["ImportWeightsConfig", "ImportedWeights", "import_weights"]


class ImportWeightsConfig(StageConfig):
    """Which weights of the file are wanted."""

    backbone: str = Field(min_length=1)
    """Timm's name of the model that the file was made with, as `resnet50`; with a tag, as `resnet50.a1_in1k`, it also says how images are
    normalised."""
    prefix: str | None = None
    """What stands before every name of a tensor in the file; none finds it."""


@dataclass(frozen=True)
class ImportedWeights:
    """What was brought in."""

    weights: str
    """the name to set as detector.backbone_weights"""
    backbone: str
    source: str
    tensors: int
    """matched, all of the backbone's"""
    prefix: str
    """what stood before their names"""
    unused: list[str]
    """names in the file that the backbone has no place for, such as a classifier"""
    sha256: str
    next: str


def import_weights(
    workspace: Workspace,
    file: Path,
    config: ImportWeightsConfig,
    *,
    source: str | None = None,
    allow_pickle: bool = False,
    progress: Progress = silent,
) -> ImportedWeights:
    """Check that ``file`` holds every tensor of the backbone, and keep them; the same file again leaves the workspace as it is.

    Args:
        workspace: where they go, below ``weights/``, under a name made from their content.
        file: safetensors, or with ``allow_pickle`` what torch saved.
        config: which of them.
        source: what to call the file in reports; None for its name.
        allow_pickle: tensors may be read from a pickle, and nothing else; only a person on the command line says so.
        progress: told at the start and the end.

    Raises:
        CheckpointRefused: damaged, or not every tensor of the backbone is in it in its shape.
        UsageError: timm has no such backbone, or a pickle is not allowed.
    """
    progress(0, 1, file.name)
    body = feature_network(config.backbone)
    tensors = read_tensors(file, allow_pickle=allow_pickle)
    fitted = fit_weights(tensors, body.state_dict(), file=file.name, module=config.backbone, prefix=config.prefix)
    data = resolve_model_data_config(body)
    said = {"backbone": config.backbone, "mean": list(data["mean"]), "std": list(data["std"])}
    content = serialized(fitted.weights, said)
    digest = hashlib.sha256(content).hexdigest()
    name = f"{config.backbone}-{digest[:12]}.safetensors"
    write_bytes(workspace.weights / name, content)
    origin = source or file.name
    with workspace.session() as session:
        ledger.record(session, "import_weights", weights=name, backbone=config.backbone, source=origin, sha256=digest)
    progress(1, 1, name)
    return ImportedWeights(
        weights=name,
        backbone=config.backbone,
        source=origin,
        tensors=len(fitted.weights),
        prefix=fitted.prefix,
        unused=list(fitted.unused),
        sha256=digest,
        next=f"tilehawk finetune --set detector.backbone={config.backbone} --set detector.backbone_weights={name}",
    )
