"""What a round was expected to cost, by what was known then, and what it did cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from engine.catalog.rounds import AUDIT, round_tiles, rounds
from engine.catalog.schema import RoundRow
from engine.catalog.tiles import tiles
from engine.catalog.visits import MeasuredVisit, as_visits, foreseen_tiles, measured_visits
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig, FittedPrices, fit_prices, worked_seconds
from engine.selection.cost_model import CostModel, learn_costs
from engine.selection.cost_spread import UNMEASURED, CostSpread, Quantiles, batch_quantiles, tile_quantiles
from engine.selection.money import HOUR

__all__ = [
    "BatchCost",
    "FinishedRound",
    "WorkedVisits",
    "batch_cost",
    "cost_model",
    "finished_rounds",
    "keep_cost",
    "stored_cost",
    "worked_visits",
]

Floats = NDArray[np.float64]
COST = "cost"
"""Key of a round's metrics."""


@dataclass(frozen=True)
class BatchCost:
    """What a batch is expected to cost, and by what.

    ``prices``: seconds for each act, fitted to ``visits`` measured visits, or as they were configured where that is 0; ``factor``: what the
    foreseen work was multiplied by, from ``rounds`` that are over; P50 and P90 of the seconds and the money of the batch; ``spread``: what
    they were made from.
    """

    prices: dict[str, float]
    visits: int
    factor: float
    rounds: int
    seconds_p50: float
    seconds_p90: float
    money_p50: float
    money_p90: float
    hourly_rate: float
    currency: str
    tile_spread: float
    round_spread: float

    @property
    def spread(self) -> CostSpread:
        """What the quantiles were made from."""
        return CostSpread(self.factor, self.tile_spread, self.round_spread, 0, self.rounds)


@dataclass(frozen=True, eq=False)
class FinishedRound:
    """The tiles of a round that are reviewed and were timed: what each was expected to take, and did; the ``spread`` believed then."""

    number: int
    chosen: int
    tile_ids: NDArray[np.int64]
    expected: Floats
    measured: Floats
    spread: CostSpread

    def quantiles(self, rows: NDArray[np.bool_]) -> Quantiles:
        """P50 and P90, as they were foretold, of the tiles at ``rows`` together."""
        return batch_quantiles(self.expected[rows], self.spread)

    @property
    def tile_p50(self) -> Floats:
        """P50 (N,) of each tile, as it was foretold."""
        return tile_quantiles(self.expected, self.spread)[0]


@dataclass(frozen=True, eq=False)
class WorkedVisits:
    """N visits, what is believed of their ``seconds`` (N,), NaN where one was left lying or has none, and the prices that say so."""

    visits: list[MeasuredVisit]
    seconds: Floats
    fitted: FittedPrices


def worked_visits(session: Session, priors: Prices, config: CostFitConfig) -> WorkedVisits:
    """Every measured visit with the seconds that were worked, in the order in which they were first made.

    What was left lying is told by the pace of these annotators. As long as too few visits say what that is, all seconds above 0 are
    believed, and the prices are ``priors``.
    """
    visits = measured_visits(session)
    known = as_visits(visits)
    fitted = fit_prices(known, priors, config)
    if not fitted.visits:
        usable = np.isfinite(known.seconds) & (known.seconds > 0)
        return WorkedVisits(visits, np.where(usable, known.seconds, np.nan), fitted)
    return WorkedVisits(visits, worked_seconds(known, fitted.prices, config), fitted)


def cost_model(session: Session, priors: Prices, config: CostFitConfig, *, detector: bool) -> CostModel:
    """What all measured work says of the next tiles, whose boxes are foreseen by a detector or by none."""
    visits = measured_visits(session)
    return learn_costs(as_visits(visits), foreseen_tiles(session, visits, detector=detector), priors, config)


def batch_cost(expected: Sequence[float], model: CostModel, *, hourly_rate: float, currency: str) -> BatchCost:
    """What a batch of tiles costs that are each expected to take so many seconds at the model's prices."""
    seconds = batch_quantiles(np.asarray(expected, dtype=np.float64), model.spread)
    return BatchCost(
        prices=model.fitted.prices.model_dump(),
        visits=model.fitted.visits,
        factor=model.spread.factor,
        rounds=model.spread.rounds,
        seconds_p50=seconds.p50,
        seconds_p90=seconds.p90,
        money_p50=seconds.p50 / HOUR * hourly_rate,
        money_p90=seconds.p90 / HOUR * hourly_rate,
        hourly_rate=hourly_rate,
        currency=currency,
        tile_spread=model.spread.tile_spread,
        round_spread=model.spread.round_spread,
    )


def keep_cost(row: RoundRow, cost: BatchCost) -> None:
    """Write with the round what it is expected to cost, in the caller's transaction."""
    row.metrics = {**row.metrics, COST: asdict(cost)}


def stored_cost(row: RoundRow) -> BatchCost | None:
    """What the round was expected to cost; None for one that was ranked before that was kept."""
    return BatchCost(**row.metrics[COST]) if COST in row.metrics else None


def finished_rounds(session: Session) -> list[FinishedRound]:
    """The rounds, audits aside, of which at least one tile is reviewed and timed, by number."""
    found = []
    for row in rounds(session):
        if row.strategy == AUDIT:
            continue
        links = round_tiles(session, row)
        reviewed = {tile.id for tile in tiles(session, ids=[link.tile_id for link in links], reviewed=True)}
        timed = [(link.tile_id, link.estimated_seconds, link.measured_seconds) for link in links if link.tile_id in reviewed]
        known = [each for each in timed if each[2] is not None and each[2] > 0]
        if known:
            ids, expected, measured = (np.asarray(column) for column in zip(*known, strict=True))
            cost = stored_cost(row)
            found.append(FinishedRound(row.number, len(links), ids, expected, measured, UNMEASURED if cost is None else cost.spread))
    return found
