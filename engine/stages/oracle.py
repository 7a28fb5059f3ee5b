"""``oracle``: known labels annotate a round's tiles, and charge what an annotator would have needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import accept_withheld, mark_reviewed, tile_boxes
from engine.catalog.predictions import round_detections
from engine.catalog.rounds import get_round, round_tiles, seconds_spent
from engine.catalog.schema import Annotation, Review, RoundRow, RoundTile
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.progress import Progress, silent, track
from engine.selection.cost import Prices
from engine.simulation.oracle import OracleVisit, charge, shown_boxes

__all__ = ["OracleConfig", "OracleReport", "consult_oracle"]

ORACLE = "oracle"
VISIT = "visit"
"""Key of the reasons of a tile that the oracle visited."""


class OracleConfig(StageConfig):
    """Which round the oracle annotates, and at what prices."""

    round: int | None = Field(default=None, ge=1)
    """Number of the round; none for the newest."""
    prices: Prices = Prices()
    """Seconds for each act of the annotator whom the oracle stands for."""
    shown_score: float = Field(default=0.3, ge=0, le=1)
    """Predictions from this score up are shown to the annotator for correction."""
    assume_empty: bool = False
    """Take a scene of which no label file holds a box for empty ground; otherwise its tiles are left unreviewed and counted as unknown."""


@dataclass(frozen=True)
class OracleReport:
    """What a round brought: tiles visited, boxes newly paid for, seconds charged and expected for those tiles, and the acts behind them.

    ``not_reached``: tiles that the budget did not pay for any more; ``unknown``: tiles of scenes that the oracle knows nothing of.
    """

    round: int
    tiles: int
    boxes: int
    seconds: float
    estimated_seconds: float
    budget_seconds: float
    verified: int
    edited: int
    drawn: int
    deleted: int
    not_reached: int
    unknown: int


def consult_oracle(workspace: Workspace, config: OracleConfig, *, progress: Progress = silent) -> OracleReport:
    """Visit the round's tiles in their order until the next one would exceed the budget in charged seconds.

    What the budget does not pay for alone is passed over while nothing of it is spent; a round of which it pays for no tile stays open. A
    visit accepts the withheld boxes of which enough shows in the tile and reviews the tile, in one transaction; so a run that was
    stopped goes on where it was, and a round that is annotated already is only reported.

    Raises:
        BadInput: no such round.
        LabelSetMismatch: the round's predictions speak of other classes.
        NothingToDo: no labels were withheld for any scene of the round, or its budget pays for none of its tiles.
    """
    with workspace.worker_lock("oracle"):
        with workspace.session(write=False) as session:
            row = get_round(session, config.round)
            links = round_tiles(session, row)
            chosen = [link.tile_id for link in links]
            reached = max((link.position for link in links if VISIT in link.reasons), default=-1)
            known = _known_scenes(session)
            records = {tile.id: tile for tile in tiles(session, ids=chosen)}
            predicted = round_detections(workspace, session, row).of_tile
        answerable = [tile_id for tile_id in chosen if config.assume_empty or records[tile_id].scene_id in known]
        passed = {link.tile_id for link in links if link.position <= reached}
        if chosen and not answerable:
            raise NothingToDo(
                f"the oracle knows nothing of the {len(chosen)} tiles of round {row.number}: no label file holds a box of their scenes",
                remedy="Import known labels with `tilehawk labels import FILE --withhold`, or set assume_empty",
            )
        if row.state == "ranked":
            too_dear: list[float] = []
            for tile_id in track(answerable, len(answerable), "asking the oracle", progress):
                if tile_id in passed:
                    continue
                over = _visit(workspace, row, records[tile_id], predicted(tile_id), config)
                if over is not None and over.spent:
                    break
                if over is not None:
                    too_dear.append(over.asked)
            _finish(workspace, row, too_dear)
        with workspace.session(write=False) as session:
            return _report(session, get_round(session, row.number), unknown=len(chosen) - len(answerable))


def _known_scenes(session: Session) -> set[int]:
    return set(session.scalars(select(Annotation.scene_id).distinct()))


@dataclass(frozen=True)
class _Exceeded:
    """The seconds that a tile ``asked`` for, and those that were ``spent`` on the round before it."""

    asked: float
    spent: float


def _visit(workspace: Workspace, row: RoundRow, tile: TileRecord, predicted: Boxes, config: OracleConfig) -> _Exceeded | None:
    """Annotate one tile unless it is reviewed already, or would exceed the budget."""
    with workspace.session() as session:
        if session.scalar(select(exists().where(Review.tile_id == tile.id))):
            return None
        accepted = tile_boxes(session, [tile])[tile.id]
        withheld = tile_boxes(session, [tile], states=("withheld",))[tile.id]
        true = Boxes(np.concatenate([accepted.xyxy, withheld.xyxy]), np.concatenate([accepted.labels, withheld.labels]))
        visit = charge(true, shown_boxes(predicted, accepted, config.shown_score), config.prices)
        spent = seconds_spent(session, row)
        if spent + visit.seconds > row.budget_seconds:
            return _Exceeded(visit.seconds, spent)
        boxes = accept_withheld(session, tile, annotator=ORACLE)
        mark_reviewed(session, [tile.id], by=ORACLE, seconds=visit.seconds)
        record_visit(session, MeasuredVisit(tile.id, ORACLE, ORACLE, visit.seconds, **_acts(visit)))
        link = session.get_one(RoundTile, (row.id, tile.id))
        link.measured_seconds = visit.seconds
        link.reasons = {**link.reasons, VISIT: {**_acts(visit), "boxes": boxes}}
    return None


def _acts(visit: OracleVisit) -> dict[str, Any]:
    acts = asdict(visit)
    acts.pop("seconds")
    return acts


def _finish(workspace: Workspace, row: RoundRow, too_dear: Sequence[float]) -> None:
    with workspace.session() as session:
        stored = get_round(session, row.number)
        if too_dear and not seconds_spent(session, stored):
            raise NothingToDo(
                f"the budget of round {row.number}, {row.budget_seconds:g} seconds, pays for none of its tiles: the cheapest takes "
                f"{min(too_dear):.1f} seconds",
                remedy="The round stays open for people. Choose again with a larger budget: tilehawk rank --set waiting_too=true",
            )
        visited = sum(link.measured_seconds is not None for link in round_tiles(session, stored))
        stored.measured_seconds = seconds_spent(session, stored)
        stored.state = "annotated"
        ledger.record(session, "oracle", round=stored.number, tiles=visited, seconds=stored.measured_seconds)


def _report(session: Session, row: RoundRow, *, unknown: int) -> OracleReport:
    links = round_tiles(session, row)
    visited = [link for link in links if VISIT in link.reasons]
    acts = {act: sum(link.reasons[VISIT][act] for link in visited) for act in ("boxes", "verified", "edited", "drawn", "deleted")}
    return OracleReport(
        round=row.number,
        tiles=len(visited),
        seconds=row.measured_seconds or 0.0,
        estimated_seconds=sum(link.estimated_seconds for link in visited),
        budget_seconds=row.budget_seconds,
        not_reached=len(links) - len(visited) - unknown,
        unknown=unknown,
        **acts,
    )
