"""What a learning curve is made of: the models that were measured, with the labels that each learned from and what those took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.annotations import tile_boxes
from engine.catalog.models import get_model, models
from engine.catalog.schema import ModelRow, Review
from engine.catalog.tiles import tiles

__all__ = ["AnnotatedTile", "MeasuredModel", "annotated_tiles", "measured_models"]

_NO_MATTER = frozenset(["seed", "threads", "precision", "prefetch", "micro_batch", "checkpoint_seconds", "max_unreadable", "tensorboard"])
"""Settings of a schedule that change nothing of what its models are worth on average."""


@dataclass(frozen=True)
class AnnotatedTile:
    """A reviewed tile of the training ground: its accepted boxes, and the seconds that it took where they are known."""

    tile_id: int
    boxes: int
    seconds: float | None


@dataclass(frozen=True)
class MeasuredModel:
    """A fine-tuned model that was evaluated on a split.

    ``tiles`` and ``boxes`` of the training ground are what it learned from, ``seconds`` what annotators spent on those tiles as far as that
    was measured. ``ap50`` is on ``test_tiles`` with ``test_boxes`` true boxes; None where it was stored as no number. ``made`` is the same
    for models of one architecture, schedule and kind of start, whose AP50 differ by their labels alone.
    """

    model: str
    tiles: int
    boxes: int
    seconds: float
    ap50: float | None
    test_tiles: int
    test_boxes: int
    made: str


def annotated_tiles(session: Session) -> list[AnnotatedTile]:
    """The reviewed tiles of the training ground in the order of their first review."""
    records = {tile.id: tile for tile in tiles(session, split="train", reviewed=True)}
    boxes = tile_boxes(session, list(records.values()))
    reviews = session.execute(select(Review.tile_id, Review.seconds).order_by(Review.id))
    return [AnnotatedTile(tile_id, len(boxes[tile_id]), seconds) for tile_id, seconds in reviews if tile_id in records]


def measured_models(
    session: Session, annotated: Sequence[AnnotatedTile], split: str, names: Sequence[str] | None = None
) -> list[MeasuredModel]:
    """The newest measured model for each number of boxes, by that number.

    A model's training report says how many tiles it learned from. Fine-tuning reads every tile that is reviewed by then, and a review is
    never taken back: so these were the first so many of ``annotated``.

    Args:
        session: an open transaction.
        annotated: from :func:`annotated_tiles`.
        split: ``test`` or ``dev``, where they were evaluated.
        names: only these models; None for every fine-tuned one.

    Raises:
        BadInput: no fine-tuned model of a name.
    """
    rows = models(session, stage="finetune") if names is None else [get_model(session, name, stage="finetune") for name in names]
    stages: dict[int | None, str] = {row.id: row.stage for row in models(session)}
    spent = [0.0]
    for tile in annotated:
        spent.append(spent[-1] + (tile.seconds or 0.0))
    newest: dict[int, MeasuredModel] = {}
    for row in sorted(rows, key=_age):
        training, measured = row.metrics.get("training"), row.metrics.get(split)
        if training and measured:
            newest[int(training["boxes"])] = _measured(row, _made(row, stages.get(row.parent_id)), training, measured, spent)
    return [newest[boxes] for boxes in sorted(newest)]


def _age(row: ModelRow) -> int:
    return row.id


def _made(row: ModelRow, start: str | None) -> str:
    """Digits of how the model was made, from a model of the stage ``start``, but for what changes nothing of what it is worth."""
    schedule = {name: value for name, value in (row.config.get("schedule") or {}).items() if name not in _NO_MATTER}
    parts = {name: row.config.get(name) for name in ("detector", "encoder", "encoder_weight", "unlabelled", "self_training")}
    document = [schedule, parts, start]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def _measured(row: ModelRow, made: str, training: dict[str, Any], measured: dict[str, Any], spent: Sequence[float]) -> MeasuredModel:
    count = int(training["tiles"])
    ap50 = measured.get("ap50")
    return MeasuredModel(
        model=row.name,
        tiles=count,
        boxes=int(training["boxes"]),
        seconds=spent[min(count, len(spent) - 1)],
        ap50=None if ap50 is None else float(ap50),
        test_tiles=int(measured.get("tiles", 0)),
        test_boxes=int(measured.get("boxes", 0)),
        made=made,
    )
