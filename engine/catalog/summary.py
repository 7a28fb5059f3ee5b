"""What is in a workspace, at a glance: counts, models, rounds, what was set aside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.catalog.models import models
from engine.catalog.rounds import rounds
from engine.catalog.schema import Annotation, LabelSetRow, ModelRow, Review, RoundTile, Scene, SetAside, Source, Tile
from engine.catalog.splits import NO_SPLIT, SPLITS
from engine.catalog.workspace import Workspace

__all__ = ["ModelSummary", "RoundSummary", "SetAsideFile", "WorkspaceSummary", "set_aside_files", "summarize"]


@dataclass(frozen=True)
class ModelSummary:
    """A trained model: its stage (pretrain or finetune) and its metrics as they were recorded."""

    name: str
    stage: str
    metrics: dict[str, Any]


@dataclass(frozen=True)
class RoundSummary:
    """A round: what it chose, what that was expected to cost and did cost in seconds, and what it bought.

    ``metrics`` are AP and AP50 on test ground of the last model that was fine-tuned between this round's annotation and the next round;
    empty while there is none that was evaluated.
    """

    number: int
    strategy: str
    state: str
    tiles: int
    budget_seconds: float
    estimated_seconds: float
    measured_seconds: float | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class SetAsideFile:
    """A file that was not taken in, the source it came in, and why not."""

    source: str
    name: str
    reason: str


@dataclass(frozen=True)
class WorkspaceSummary:
    """Everything that ``status`` and the overview page show. Withheld boxes are counted only, never shown."""

    workspace: str
    sources: int
    scenes: int
    tiles: dict[str, int]
    """by split; ``none`` are tiles that belong to no split"""
    reviewed: dict[str, int]
    """tiles by split that somebody has looked at"""
    annotations: dict[str, int]
    """accepted boxes by class, in the order of the label set"""
    withheld: int
    """boxes that only the oracle knows"""
    models: list[ModelSummary]
    rounds: list[RoundSummary]
    set_aside: int
    busy: str | None
    """who is running a stage there now"""


def summarize(workspace: Workspace) -> WorkspaceSummary:
    """Count what is in ``workspace``, in one reading transaction."""
    holder = workspace.worker_holder()
    with workspace.session(write=False) as session:
        return WorkspaceSummary(
            workspace=str(workspace.root),
            sources=_count(session, Source),
            scenes=_count(session, Scene),
            tiles=_by_split(session.execute(select(Tile.split, func.count()).group_by(Tile.split)).all()),
            reviewed=_by_split(
                session.execute(select(Tile.split, func.count()).join(Review, Review.tile_id == Tile.id).group_by(Tile.split)).all()
            ),
            annotations=_annotations_by_class(session),
            withheld=session.scalar(select(func.count()).select_from(Annotation).where(Annotation.state == "withheld")) or 0,
            models=[ModelSummary(row.name, row.stage, row.metrics) for row in models(session)],
            rounds=_rounds(session),
            set_aside=_count(session, SetAside),
            busy=None if holder is None else str(holder),
        )


def set_aside_files(session: Session, *, limit: int, offset: int = 0) -> list[SetAsideFile]:
    """A page of the files that were set aside, in the order they were met."""
    query = select(Source.name, SetAside.name, SetAside.reason).join(Source, Source.id == SetAside.source_id).order_by(SetAside.id)
    return [SetAsideFile(source, name, reason) for source, name, reason in session.execute(query.limit(limit).offset(offset))]


def _count(session: Session, table: type[Scene | SetAside | Source]) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def _by_split(rows: Sequence[Any]) -> dict[str, int]:
    counts = {split: int(count) for split, count in rows}
    return {split: counts.get(split, 0) for split in (*SPLITS, NO_SPLIT)}


def _annotations_by_class(session: Session) -> dict[str, int]:
    label_set = session.get(LabelSetRow, 1)
    if label_set is None:
        return {}
    query = select(Annotation.label, func.count()).where(Annotation.state == "accepted").group_by(Annotation.label)
    counts = {int(label): int(count) for label, count in session.execute(query)}
    return {name: counts.get(index, 0) for index, name in enumerate(label_set.names)}


def _rounds(session: Session) -> list[RoundSummary]:
    tiles = {
        int(round_id): int(count)
        for round_id, count in session.execute(select(RoundTile.round_id, func.count()).group_by(RoundTile.round_id))
    }
    known = rounds(session)
    ends = [*(row.created for row in known[1:]), math.inf]
    return [
        RoundSummary(
            number=row.number,
            strategy=row.strategy,
            state=row.state,
            tiles=tiles.get(row.id, 0),
            budget_seconds=row.budget_seconds,
            estimated_seconds=row.estimated_seconds,
            measured_seconds=row.measured_seconds,
            metrics={} if row.measured_seconds is None else _bought(models(session, stage="finetune"), row.created, end),
        )
        for row, end in zip(known, ends, strict=False)
    ]


def _bought(finetuned: Sequence[ModelRow], begin: float, end: float) -> dict[str, float]:
    """AP and AP50 on test ground of the last model made here in [begin, end) that was evaluated there."""
    made = [row.metrics for row in finetuned if begin <= row.created < end and "imported" not in row.metrics]
    evaluated = [metrics["test"] for metrics in made if "test" in metrics]
    return {metric: float(evaluated[-1][metric]) for metric in ("ap", "ap50")} if evaluated else {}
