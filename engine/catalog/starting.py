"""What a training run starts from: a model of the workspace, and the architecture that follows from it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from engine.catalog.models import get_model, models
from engine.catalog.schema import ModelRow
from engine.models.detector import DetectorConfig
from engine.models.store import StoredModel

__all__ = ["architecture", "parent_identity", "starting_model"]


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


def architecture(stated: DetectorConfig, start: StoredModel | None) -> DetectorConfig:
    """``stated``, and what it leaves open as in the model to start from."""
    if start is None:
        return stated
    said = {key: getattr(stated, key) for key in stated.model_fields_set}
    return DetectorConfig.from_mapping(start.config.model_dump() | said)


def parent_identity(start: StoredModel | None) -> str | None:
    """What stands for the model to start from in a run's identity: its name and its weights."""
    return f"{start.directory.name}:{start.manifest['sha256']['model.safetensors']}" if start else None
