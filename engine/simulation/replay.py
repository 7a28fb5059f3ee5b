"""Budgets replayed: rank, ask the oracle, learn, measure, round after round, for one strategy and one seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from engine.boxes import Boxes
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.files import write_json
from engine.inference.predictions import Predictions
from engine.progress import Progress
from engine.selection.config import SelectionConfig, Strategy
from engine.selection.cost import Prices
from engine.selection.rank import RankedTile, rank
from engine.simulation.curves import Unit
from engine.simulation.oracle import OracleVisit, charge, shown_boxes
from engine.simulation.pool import LabelledPool

__all__ = ["CHARGING", "Learner", "Measured", "ReplayConfig", "Round", "replay", "replay_all_labels"]

Integers = NDArray[np.int64]
NEXT_TO_NOTHING, ROUNDING = 1e-9, 1e-6
CHARGING = 3
"""How visits are charged, as files say it; replays of another number are not held against these. 2: an object that was paid for in an
earlier tile is shown in the next; before, each tile was charged as if nobody had seen the others. 3: a box in its place with a wrong class
is edited; before, it was deleted and drawn anew."""
MOST_BATCHES = 50
"""Batches of a round at most."""


class ReplayConfig(StageConfig):
    """Which budgets are replayed, and with what annotator."""

    start: float = Field(default=600.0, gt=0)
    """Budget of the first round, drawn at random and the same for all strategies."""
    budgets: tuple[PositiveFloat, ...] = (600.0, 600.0, 600.0)
    """Budgets of the rounds after it."""
    unit: Unit = "seconds"
    """What budgets are counted in: an annotator's seconds, boxes that are looked at, or tiles."""
    selection: SelectionConfig = SelectionConfig()
    """How tiles are chosen; strategy, seed and budget are the replay's own."""
    noise: float = Field(default=0.3, ge=0, le=2)
    """Standard deviation of the logarithm of what a visit takes, against its price."""
    shown_score: float = Field(default=0.3, ge=0, le=1)
    """Predictions from this score up are shown to the annotator for correction."""


@dataclass(frozen=True)
class Measured:
    """What a model is worth on the test tiles; AP and AP50 in [0, 1], by class None where the test tiles hold none.

    ``test_boxes``: true boxes of the test tiles, None in files from before they were counted.
    """

    ap: float
    ap50: float
    ap50_per_class: dict[str, float | None]
    test_boxes: int | None = None


@dataclass(frozen=True)
class Round:
    """What has been spent up to a round, on which tiles, and what the model that learned from them is worth."""

    round: int
    tile_ids: tuple[int, ...]
    """chosen in this round"""
    tiles: int
    boxes: int
    seconds: float
    """so far; ``boxes``: different objects, each counted once"""
    expected_seconds: float
    charged_seconds: float
    """of this round"""
    verified: int
    edited: int
    drawn: int
    deleted: int
    """so far"""
    measured: Measured
    looks: float | None = None
    """how often the model saw each labelled tile on average; None in files from before it was counted"""


class Learner(Protocol):
    """What learns from labelled tiles and looks at all of them; it keeps what it needs to go on after a crash."""

    def learn(self, name: str, rows: Integers, boxes: Sequence[Boxes], progress: Progress) -> float:
        """Make the model ``name`` of the tiles at ``rows`` with ``boxes``, unless it is there; how often it saw each tile, on average."""

    def predict(self, name: str, progress: Progress) -> Predictions:
        """What the model ``name`` sees on every tile of the pool."""

    def measure(self, name: str, progress: Progress) -> Measured:
        """What the model ``name`` is worth on the test tiles."""


def replay(
    pool: LabelledPool, learner: Learner, config: ReplayConfig, strategy: Strategy, seed: int, file: Path, *, progress: Progress
) -> list[Round]:
    """All rounds of one strategy and seed, written to ``file`` as they are done; a file that is there is gone on with.

    The first round is drawn at random by the seed alone, so it is the same for all strategies. A round's tiles are visited in their order
    until the next would exceed the budget; a batch that ends before that is followed by another. What the budget does not pay for alone is
    passed over while nothing else was visited. An object that was paid for in an earlier tile is shown in the next. A round whose budget
    pays for nothing is an empty one, after which the model is what it was; once every tile was visited, the replay has ended.

    Raises:
        NothingToDo: a first budget that pays for no tile.
        Cancelled: progress said so; what is done stands in ``file``.
    """
    done = _read(file)
    names = [f"start-{seed}", *(f"{strategy}-{seed}-{number}" for number in range(1, len(config.budgets) + 1))]
    for number in range(len(done), len(names)):
        labelled = np.asarray([pool.tile_ids.searchsorted(tile) for each in done for tile in each.tile_ids], dtype=np.int64)
        ended = len(labelled) == len(pool)
        if not ended:
            newest = next((names[each.round] for each in reversed(done) if each.tile_ids), None)
            if newest is not None:
                learner.learn(newest, labelled, [pool.true[row] for row in labelled], progress)
            predictions = None if newest is None else learner.predict(newest, progress)
            visited = _annotate(pool, labelled, predictions, config, strategy if number else "random", seed, number)
            if not number and not visited.rows:
                raise NothingToDo(
                    f"a first budget of {config.start:g} {config.unit} pays for no tile",
                    remedy="Raise replay.start, and replay.budgets where they are as small",
                )
            rows = np.concatenate([labelled, np.asarray(visited.rows, dtype=np.int64)])
            looks: float | None
            if visited.rows:
                looks = learner.learn(names[number], rows, [pool.true[row] for row in rows], progress)
                measured = learner.measure(names[number], progress)
            else:
                looks, measured = done[-1].looks, done[-1].measured
            summed = _summed(pool, done[-1] if done else None, number, rows, visited, measured)
            done.append(replace(summed, looks=looks))
        said = {"strategy": strategy, "seed": seed, "config": config.model_dump(mode="json"), "charging": CHARGING}
        write_json(file, said | {"rounds": [asdict(each) for each in done], "ended": ended})
        if ended:
            break
    return done


def replay_all_labels(pool: LabelledPool, learner: Learner, seed: int, file: Path, *, prices: Prices, progress: Progress) -> Measured:
    """What a model is worth that learned from the whole pool, and what drawing all of it would cost, each object once.

    ``file`` says too how often the model saw each tile on average: one that hardly looked at them is not what all labels give.
    """
    if file.exists():
        return Measured(**json.loads(file.read_text())["measured"])
    name = f"all-{seed}"
    looks = learner.learn(name, np.arange(len(pool)), list(pool.true), progress)
    measured = learner.measure(name, progress)
    paid: set[int] = set()
    seconds = 0.0
    for row, true in enumerate(pool.true):
        seconds += charge(true, shown_boxes(Boxes.empty(scored=True), pool.boxes_of(row, paid), 0.0), prices).seconds
        paid |= pool.objects_on([row])
    said = {"seed": seed, "tiles": len(pool), "boxes": pool.boxes, "seconds": seconds, "looks": looks, "measured": asdict(measured)}
    write_json(file, said | {"charging": CHARGING})
    return measured


@dataclass
class _Visited:
    """What was done in a round so far: rows in their order, the visits there, the seconds that they were expected to take."""

    rows: list[int] = field(default_factory=list)
    visits: list[OracleVisit] = field(default_factory=list)
    expected: float = 0.0


def _annotate(
    pool: LabelledPool,
    labelled: Integers,
    predictions: Predictions | None,
    config: ReplayConfig,
    strategy: Strategy,
    seed: int,
    number: int,
) -> _Visited:
    """Visit tiles for the budget of the round ``number``; none where it pays for no tile.

    Where a batch took less than was expected, another is chosen for the rest of the budget, by the same predictions and what is labelled
    by then, and without a slice by chance, for the round has had its own.
    """
    left = config.budgets[number - 1] if number else config.start
    done, paid, passed_over = _Visited(), pool.objects_on(labelled), list[int]()
    for batch in range(MOST_BATCHES):
        if left <= 0:
            break
        asked = config.selection.model_copy(
            update={
                "strategy": strategy,
                "seed": seed * 10_000 + number * 100 + batch,
                "budget_seconds": left * (1 + ROUNDING),
                "prices": _prices_in(config.unit, config.selection.prices),
                "audit_share": 0.0 if batch else config.selection.audit_share,
            }
        )
        rows = np.concatenate([labelled, np.asarray(done.rows, dtype=np.int64)])
        try:
            ranking = rank(pool.candidates(rows, predictions, passed_over), asked)
        except NothingToDo:
            break
        for tile in ranking.tiles:
            row = int(pool.tile_ids.searchsorted(tile.tile_id))
            visit = _visit(pool, row, paid, predictions, config, seed)
            spent = {"seconds": visit.seconds, "boxes": float(len(pool.true[row])), "tiles": 1.0}[config.unit]
            if spent > left and done.rows:
                return done
            if spent > left:
                passed_over.append(row)
                continue
            left -= spent
            paid |= pool.objects_on([row])
            done.rows.append(row)
            done.visits.append(visit)
            done.expected += _expected_seconds(tile, config)
    return done


def _visit(pool: LabelledPool, row: int, paid: set[int], predictions: Predictions | None, config: ReplayConfig, seed: int) -> OracleVisit:
    """What an annotator makes of the tile at ``row`` once the objects ``paid`` are known, at the pace of that day."""
    tile = int(pool.tile_ids[row])
    predicted = Boxes.empty(scored=True) if predictions is None else predictions.of_tile(tile)
    shown = shown_boxes(predicted, pool.boxes_of(row, paid), config.shown_score)
    visit = charge(pool.true[row], shown, config.selection.prices)
    return replace(visit, seconds=visit.seconds * _pace(config.noise, seed, tile))


def _expected_seconds(tile: RankedTile, config: ReplayConfig) -> float:
    """What a visit was expected to take, whatever the budget is counted in."""
    if config.unit == "seconds":
        return tile.estimated_seconds
    boxes = tile.reasons["expected_boxes"]
    return float(config.selection.prices.seconds(boxes["sure"], boxes["medium"], boxes["missed"], 0.0))


def _prices_in(unit: Unit, prices: Prices) -> Prices:
    """Prices at which a budget of seconds is one of boxes that are looked at, or of tiles."""
    if unit == "seconds":
        return prices
    opening, box = (1.0, NEXT_TO_NOTHING) if unit == "tiles" else (NEXT_TO_NOTHING, 1.0)
    return Prices(open=opening, verify=box, edit=box, draw=box, delete=NEXT_TO_NOTHING)


def _pace(noise: float, seed: int, tile_id: int) -> float:
    """How much longer than its price a visit takes; 1 on average, the same for all strategies."""
    drawn = np.random.default_rng([seed, tile_id]).normal()
    return float(np.exp(noise * drawn - noise * noise / 2))


def _summed(pool: LabelledPool, before: Round | None, number: int, rows: Integers, visited: _Visited, measured: Measured) -> Round:
    """The round after ``before``, with which all tiles at ``rows`` are labelled."""

    def so_far(name: str) -> Any:
        return (getattr(before, name) if before else 0) + sum(getattr(visit, name) for visit in visited.visits)

    return Round(
        round=number,
        tile_ids=tuple(int(pool.tile_ids[row]) for row in visited.rows),
        tiles=len(rows),
        boxes=len(pool.objects_on(rows)),
        seconds=so_far("seconds"),
        expected_seconds=visited.expected,
        charged_seconds=sum(visit.seconds for visit in visited.visits),
        verified=so_far("verified"),
        edited=so_far("edited"),
        drawn=so_far("drawn"),
        deleted=so_far("deleted"),
        measured=measured,
    )


def _read(file: Path) -> list[Round]:
    """The rounds that are done."""
    if not file.exists():
        return []
    document = json.loads(file.read_text(encoding="utf-8"))
    return [Round(**{**each, "tile_ids": tuple(each["tile_ids"]), "measured": Measured(**each["measured"])}) for each in document["rounds"]]
