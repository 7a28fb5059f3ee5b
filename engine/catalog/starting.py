"""What a training run starts from: a model of the workspace, and the architecture that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from engine.catalog.models import get_model, models
from engine.catalog.schema import ModelRow
from engine.catalog.tiles import TileRecord
from engine.models.detector import DetectorConfig
from engine.models.store import StoredModel

__all__ = ["architecture", "large_enough", "parent_identity", "starting_model"]

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
    """``stated``, and what it leaves open as in the model to start from, or so that it can see all of ``tiles`` where there is none."""
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
