"""What a training run starts from: a model of the workspace, the architecture that follows from it, and the vocabulary of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.orm import Session

from engine.catalog.models import get_model, model_directory, models
from engine.catalog.schema import ModelRow
from engine.catalog.tiles import TileRecord
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, UsageError
from engine.models.detector import DetectorConfig
from engine.models.store import StoredModel, read_model
from engine.pretext.encoder_tasks import EncoderTaskConfig
from engine.pretext.tokenizer import TOKENIZER

__all__ = ["Vocabulary", "architecture", "large_enough", "parent_identity", "require_patches", "starting_model", "vocabulary_of"]

STEP_PIXELS = 32
"""Sides of what a detector sees are multiples of this."""


def starting_model(session: Session, start: str | None) -> ModelRow | None:
    """The model that ``start`` means: its name; none for the newest pre-trained one, where there is one; "scratch" for none.

    Raises:
        BadInput: there is no model of that name.
    """
    if start == "scratch":
        return None
    if start is None:
        pretrained = models(session, stage="pretrain")
        return pretrained[-1] if pretrained else None
    return get_model(session, start)


def architecture(stated: DetectorConfig, start: StoredModel | None, tiles: Sequence[TileRecord]) -> DetectorConfig:
    """``stated``, and what it leaves open as in the model to start from, or so that it can see all of ``tiles`` where there is none.

    Raises:
        UsageError: nothing to start from, no weights for the backbone, and stages of it that would stay as they are.
    """
    if start is None and stated.backbone_weights == "none" and stated.frozen_stages:
        raise UsageError(
            f"detector.backbone_weights = 'none' with detector.frozen_stages = {stated.frozen_stages}, and no model to start from: what "
            "is frozen would stay random for good",
            expected="weights in the backbone, or detector.frozen_stages = 0",
            remedy="Bring weights in (tilehawk models import NAME), start from a model (--from MODEL), or --set detector.frozen_stages=0",
        )
    if start is None:
        return large_enough(stated, tiles)
    said = {key: getattr(stated, key) for key in stated.model_fields_set}
    return DetectorConfig.from_mapping(start.config.model_dump() | said)


def large_enough(stated: DetectorConfig, tiles: Sequence[TileRecord]) -> DetectorConfig:
    """``stated``, with an image size that holds the largest tile where it says nothing of its size."""
    largest = max((max(tile.window.width, tile.window.height) for tile in tiles), default=0)
    if "image_size" in stated.model_fields_set or largest <= stated.image_size:
        return stated
    return stated.model_copy(update={"image_size": -(-largest // STEP_PIXELS) * STEP_PIXELS})


def parent_identity(start: StoredModel | None) -> str | None:
    """What stands for the model to start from in a run's identity: its name and its weights."""
    return f"{start.directory.name}:{start.manifest['sha256']['model.safetensors']}" if start else None


class Vocabulary(NamedTuple):
    """That of a model: its file, and what stands for it in a run's identity."""

    path: Path
    identity: str


def vocabulary_of(workspace: Workspace, session: Session, name: str | None) -> Vocabulary | None:
    """The vocabulary that the model ``name`` learned with; none for none.

    Raises:
        BadInput: there is no such model, or it has no vocabulary.
        CheckpointRefused: the model's folder is damaged.
    """
    if name is None:
        return None
    stored = read_model(model_directory(workspace, get_model(session, name).name))
    digest = stored.manifest["sha256"].get(TOKENIZER)
    if digest is None:
        raise BadInput(
            f"the model {name} has no vocabulary",
            expected="one that learned encoder.task = 'mim-discrete'",
            remedy="Name another, or leave tokenizer_from out: then one is made",
        )
    return Vocabulary(stored.directory / TOKENIZER, f"{name}:{digest}")


def require_patches(encoder: EncoderTaskConfig | None, tiles: Sequence[TileRecord]) -> None:
    """Refuse patches that no tile holds.

    Raises:
        UsageError: each of the tiles is smaller than a patch of the encoder task.
    """
    side = max((min(tile.window.width, tile.window.height) for tile in tiles), default=0)
    if encoder and side < encoder.patch:
        raise UsageError(
            f"encoder.patch = {encoder.patch} with tiles of {side} px",
            expected="a patch no larger than a tile",
            remedy="Set a smaller patch, or ingest with larger tiles",
        )
