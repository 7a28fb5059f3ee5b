"""Weights of backbones that were brought into the workspace, and detectors that start from them."""

from __future__ import annotations

import difflib
from pathlib import Path

from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import inside
from engine.models.detector import Detector, DetectorConfig

__all__ = ["new_detector", "weights_file"]


def weights_file(workspace: Workspace, name: str) -> Path:
    """The file ``name`` below ``weights/``.

    Raises:
        BadInput: there is none; the message names the nearest, or the command that brings one in. A path out of the folder is refused.
    """
    path = inside(workspace.weights, name)
    if path.is_file():
        return path
    known = sorted(file.name for file in workspace.weights.glob("*.safetensors"))
    nearest = difflib.get_close_matches(name, known, n=1)
    raise BadInput(
        f"no weights {name!r} in this workspace",
        expected=f"one of {known}" if known else "weights that were brought in",
        remedy=f"Did you mean {nearest[0]!r}?" if nearest else "Bring them in: tilehawk models import FILE_OR_NAME",
    )


def new_detector(workspace: Workspace, config: DetectorConfig, num_classes: int) -> Detector:
    """A detector whose backbone starts with the weights that ``config`` names; the config stays as it is, without this machine's paths.

    Raises:
        BadInput: the workspace has no such weights.
        CheckpointRefused: they are damaged, or of another backbone.
    """
    if config.backbone_weights in {"packaged", "none"}:
        return Detector(config, num_classes)
    file = weights_file(workspace, config.backbone_weights)
    model = Detector(config.model_copy(update={"backbone_weights": str(file)}), num_classes)
    model.config = config
    return model
