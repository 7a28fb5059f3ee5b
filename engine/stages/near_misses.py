"""``search send``: tiles with look-alikes that a search was unsure of, as a round for annotators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import Field
from sqlalchemy.orm import Session

from engine.catalog import ledger
from engine.catalog.annotations import tile_boxes
from engine.catalog.costs import cost_model
from engine.catalog.decisions import dividing_score
from engine.catalog.rounds import ChosenTile, add_round, waiting_tiles
from engine.catalog.searches import HitRecord, hits
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.progress import Progress, silent
from engine.selection.cost import CostConfig, Prices, prior_costs
from engine.selection.cost_fit import CostFitConfig

__all__ = ["LOOK_ALIKES", "NearMiss", "NearMissConfig", "NearMissReport", "send_near_misses"]

LOOK_ALIKES = "look-alikes"
"""The round's strategy."""


class NearMissConfig(StageConfig):
    """Which look-alikes are near misses, and what looking at their tiles may cost."""

    search: int = Field(ge=1)
    """Number of the search."""
    around: float | None = None
    """The score around which they lie; none for the one that parts yes from no so far, or the middle of the undecided before that."""
    margin: float | None = Field(default=None, gt=0)
    """How far a score may be from there; none for however far."""
    tiles: int = Field(default=20, ge=1)
    """Tiles at most, those with scores nearest first."""
    prices: Prices = Prices()
    """Seconds for each act, until visits were measured."""
    cost: CostConfig = CostConfig()
    """What is expected on a tile while none is labelled."""
    fit: CostFitConfig = CostFitConfig()
    """How prices are learned from measured visits."""


@dataclass(frozen=True)
class NearMiss:
    """A tile to look at: the score nearest to the one asked for, and why it was chosen."""

    tile_id: int
    scene: str
    score: float
    hits: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class NearMissReport:
    """The round that was opened, nearest scores first.

    ``undecided``: look-alikes within the margin; ``left_out``: their tiles that somebody has looked at, or that wait in another round.
    """

    round: int
    search: int
    around: float
    undecided: int
    left_out: int
    estimated_seconds: float
    tiles: tuple[NearMiss, ...]


def send_near_misses(workspace: Workspace, config: NearMissConfig, *, progress: Progress = silent) -> NearMissReport:  # noqa: ARG001 - a stage
    """Open a round of the tiles on which a search's undecided look-alikes score about as high as those that are just one, or just not.

    The page Review queues them, and ``push`` sends them. It is one short transaction, so it needs no right to run stages. The same call
    again opens no second round of tiles that wait already.

    Raises:
        BadInput: no such search.
        NothingToDo: nothing undecided lies there, or all of it was looked at or waits.
    """
    with workspace.session() as session:
        undecided = [hit for hit in hits(session, config.search) if hit.decision is None and hit.tile.split == "train"]
        if not undecided:
            raise NothingToDo(
                f"search {config.search} has no undecided look-alike on training ground", remedy="Search again with more --hits"
            )
        around = _around(session, config, undecided)
        near = [hit for hit in undecided if config.margin is None or abs(hit.score - around) <= config.margin]
        by_tile = _by_tile(near, around)
        closed = _closed(session, list(by_tile))
        chosen = [_near_miss(found, around) for tile, found in by_tile.items() if tile not in closed][: config.tiles]
        if not chosen:
            raise NothingToDo(
                f"{len(near)} undecided look-alikes around {around:.2f}, on {len(by_tile)} tiles that were looked at or wait in a round",
                remedy="Take another score, or a wider margin",
            )
        number, seconds = _write(session, config, chosen, around)
    return NearMissReport(number, config.search, around, len(near), len(closed), seconds, tuple(chosen))


def _around(session: Session, config: NearMissConfig, undecided: Sequence[HitRecord]) -> float:
    if config.around is not None:
        return config.around
    parting = dividing_score(hits(session, config.search))
    return float(np.median([hit.score for hit in undecided])) if parting is None else parting


def _by_tile(near: Sequence[HitRecord], around: float) -> dict[int, list[HitRecord]]:
    """The look-alikes by tile, the tile with the nearest score first and the nearest first on each."""
    found: dict[int, list[HitRecord]] = {}
    for hit in sorted(near, key=lambda hit: (abs(hit.score - around), hit.position)):
        found.setdefault(hit.tile.id, []).append(hit)
    return found


def _closed(session: Session, tile_ids: Sequence[int]) -> set[int]:
    """The tiles that somebody has looked at, and those that wait in an open round."""
    waiting = {tile_id for waits in waiting_tiles(session).values() for tile_id in waits}
    reviewed = {tile.id for tile in tiles(session, ids=tile_ids, reviewed=True)}
    return set(tile_ids) & (waiting | reviewed)


def _near_miss(found: Sequence[HitRecord], around: float) -> NearMiss:
    first = found[0]
    others = f", and {len(found) - 1} more there" if len(found) > 1 else ""
    why = f"Search {first.search_id} is unsure of a look-alike here: score {first.score:.2f}, asked around {around:.2f}{others}."
    return NearMiss(first.tile.id, first.tile.scene_name, first.score, tuple(hit.id for hit in found), why)


def _write(session: Session, config: NearMissConfig, chosen: Sequence[NearMiss], around: float) -> tuple[int, float]:
    """Write the round; returns its number and the seconds that it is expected to cost."""
    prices = cost_model(session, config.prices, config.fit, detector=False).prices
    reviewed = tiles(session, split="train", reviewed=True)
    cost = config.cost
    if reviewed:
        seen = sum(len(boxes) for boxes in tile_boxes(session, reviewed).values()) / len(reviewed)
        cost = cost.model_copy(update={"expected_objects": seen})
    seconds = prior_costs(len(chosen), prices, cost).seconds.tolist()
    links = [
        ChosenTile(each.tile_id, each.score, price, {"why": each.why, "search": config.search, "hits": list(each.hits), "around": around})
        for each, price in zip(chosen, seconds, strict=True)
    ]
    row = add_round(session, budget_seconds=sum(seconds), strategy=LOOK_ALIKES, seed=0, chosen=links)
    ledger.record(session, "near-misses", round=row.number, around=around, tiles=[asdict(each) for each in chosen], search=config.search)
    return row.number, sum(seconds)
