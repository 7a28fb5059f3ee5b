"""``costs``: what rounds were expected to cost against what they did cost, and the prices that measured visits give."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.catalog.costs import FinishedRound, cost_model, finished_rounds
from engine.catalog.visits import MeasuredVisit, as_visits, measured_visits
from engine.catalog.workspace import Workspace
from engine.errors import NothingToDo
from engine.evaluation.cost_plots import CostPicture, write_cost_picture
from engine.progress import Progress, silent
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig, is_idle
from engine.selection.money import HOUR, MoneyConfig

__all__ = ["ActPrice", "CostsConfig", "CostsReport", "RoundCost", "costs"]


class CostsConfig(MoneyConfig):
    """By what visits are judged, and what an hour costs."""

    prices: Prices = Prices()
    """The priors that fitted prices are held to."""
    fit: CostFitConfig = CostFitConfig()
    """How prices are learned from measured visits."""
    picture: bool = True
    """Draw foretold against measured seconds to reports/costs.png."""


@dataclass(frozen=True)
class ActPrice:
    """Seconds for an act: the prior, what measured visits make of it, and how often it was seen."""

    act: str
    prior: float
    fitted: float
    seen: int


@dataclass(frozen=True)
class RoundCost:
    """A round, as far as it is annotated.

    ``timed``: tiles of ``tiles`` that are reviewed and were timed; ``idle``: those of them that were left lying, and are left out of
    the rest; P50 and P90 as they were foretold when the round was ranked; ``error_percent``: of P50 against what was measured.
    """

    round: int
    tiles: int
    timed: int
    idle: int
    seconds_p50: float
    seconds_p90: float
    seconds_measured: float
    error_percent: float
    money_p50: float
    money_p90: float
    money_measured: float


@dataclass(frozen=True)
class CostsReport:
    """What is known of the cost of annotation here.

    ``visits``: measured ones; ``used``: of which the fit made ``prices``, 0 where they are the priors; ``idle`` and ``unusable``: visits
    that it left out; ``factor_with_detector`` and ``factor_without``: what foreseen work is multiplied by in the next round; the median of
    the absolute errors of the rounds.
    """

    visits: int
    used: int
    idle: int
    unusable: int
    factor_with_detector: float
    factor_without: float
    median_error_percent: float | None
    currency: str
    picture: str | None
    prices: tuple[ActPrice, ...]
    rounds: tuple[RoundCost, ...]


def costs(workspace: Workspace, config: CostsConfig, *, progress: Progress = silent) -> CostsReport:
    """Hold the rounds' expected against their measured seconds. Reads only; no lock is taken.

    A round of which every tile was left lying is not among the rounds.

    Raises:
        NothingToDo: nothing was timed yet.
    """
    progress(0, 2, "reading visits")
    with workspace.session(write=False) as session:
        visits, finished = measured_visits(session), finished_rounds(session)
        models = [cost_model(session, config.prices, config.fit, detector=detector) for detector in (True, False)]
    if not visits and not finished:
        raise NothingToDo(
            "no visit to a tile was timed yet", remedy="Annotate a round: tilehawk rank, then the app, push and pull, or oracle"
        )
    prices = models[0].fitted.prices
    lying = _idle(visits if models[0].fitted.visits else [], prices, config)
    compared = [each for each in finished if not np.isin(each.tile_ids, lying).all()]
    rounds = tuple(_round(each, lying, config.hourly_rate) for each in compared)
    progress(1, 2, "drawing")
    picture = workspace.reports / "costs.png"
    drawn = config.picture and bool(rounds)
    if drawn:
        write_cost_picture(_picture(compared, lying, rounds), picture)
    progress(2, 2, "costs")
    return CostsReport(
        visits=len(visits),
        used=models[0].fitted.visits,
        idle=models[0].fitted.idle,
        unusable=models[0].fitted.unusable,
        factor_with_detector=models[0].spread.factor,
        factor_without=models[1].spread.factor,
        median_error_percent=statistics.median(abs(each.error_percent) for each in rounds) if rounds else None,
        currency=config.currency,
        picture=str(picture.relative_to(workspace.root)) if drawn else None,
        prices=_act_prices(visits, config.prices, prices),
        rounds=rounds,
    )


def _idle(visits: Sequence[MeasuredVisit], prices: Prices, config: CostsConfig) -> NDArray[np.int64]:
    """The tiles of which a visit was left lying, as far as the pace of the annotators is known."""
    known = as_visits(visits)
    idle = is_idle(known.seconds, known.expected(prices), config.fit)
    return np.asarray(sorted({visit.tile for visit, lying in zip(visits, idle, strict=True) if lying}), dtype=np.int64)


def _round(finished: FinishedRound, lying: NDArray[np.int64], hourly_rate: float) -> RoundCost:
    kept = ~np.isin(finished.tile_ids, lying)
    foretold, measured = finished.quantiles(kept), float(finished.measured[kept].sum())
    return RoundCost(
        round=finished.number,
        tiles=finished.chosen,
        timed=len(kept),
        idle=int((~kept).sum()),
        seconds_p50=foretold.p50,
        seconds_p90=foretold.p90,
        seconds_measured=measured,
        error_percent=100 * (foretold.p50 - measured) / measured,
        money_p50=foretold.p50 / HOUR * hourly_rate,
        money_p90=foretold.p90 / HOUR * hourly_rate,
        money_measured=measured / HOUR * hourly_rate,
    )


def _picture(finished: Sequence[FinishedRound], lying: NDArray[np.int64], rounds: Sequence[RoundCost]) -> CostPicture:
    kept = [~np.isin(each.tile_ids, lying) for each in finished]
    return CostPicture(
        tile_p50=np.concatenate([each.tile_p50[rows] for each, rows in zip(finished, kept, strict=True)]),
        tile_measured=np.concatenate([each.measured[rows] for each, rows in zip(finished, kept, strict=True)]),
        rounds=np.asarray([each.round for each in rounds]),
        round_p50=np.asarray([each.seconds_p50 for each in rounds]),
        round_p90=np.asarray([each.seconds_p90 for each in rounds]),
        round_measured=np.asarray([each.seconds_measured for each in rounds]),
    )


def _act_prices(visits: Sequence[MeasuredVisit], priors: Prices, prices: Prices) -> tuple[ActPrice, ...]:
    seen = {
        "open": len(visits),
        "verify": sum(visit.verified for visit in visits),
        "edit": sum(visit.edited for visit in visits),
        "draw": sum(visit.drawn for visit in visits),
        "delete": sum(visit.deleted for visit in visits),
        "density": len(visits),
    }
    return tuple(ActPrice(act, getattr(priors, act), getattr(prices, act), times) for act, times in seen.items())
