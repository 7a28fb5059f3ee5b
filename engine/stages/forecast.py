"""``forecast``: what the next money buys, from the models that the rounds so far have made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from engine.catalog.candidates import expected_objects, ranking_predictions
from engine.catalog.costs import WorkedVisits, worked_visits
from engine.catalog.learning import AnnotatedTile, MeasuredModel, annotated_tiles, measured_models
from engine.catalog.rounds import AUDIT, round_tiles, rounds
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo, UsageError
from engine.evaluation.learning_curve import ForecastCurve, write_learning_curve
from engine.progress import Progress, silent
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig
from engine.selection.forecast.budget import Advice, BudgetConfig, Exchange, Purchase, advise, purchases
from engine.selection.forecast.ensemble import FEWEST_AMOUNTS, CurveEnsemble, LearningPoints, fit_curves, sampling_error
from engine.selection.forecast.pace import Pace, left_lying
from engine.selection.money import HOUR

__all__ = ["ForecastConfig", "ForecastReport", "Prospect", "Rates", "Work", "forecast", "priced", "prospect"]

Floats = NDArray[np.float64]
Density = Literal["detector", "drawn", "annotated"]
FEWEST_TILES = 5
"""So many tiles say how many boxes tiles hold."""
CENTS_BELOW = 10.0
STEPS_AHEAD = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
FAR = 4.0
"""Beyond so many times the boxes that were measured, nothing that was measured says how the curve goes on."""
GRID = 200


class ForecastConfig(BudgetConfig):
    """Which measurements the learning curve is drawn through, and what is to be spent."""

    budget_seconds: float | None = None
    """Seconds of annotators that may be spent; above 0."""
    budget_money: float | None = None
    """The same in money; with neither, one step."""
    split: Literal["test", "dev"] | None = None
    """The ground on which models were measured; none for the one on which more amounts of labels were, test where both are equal."""
    models: tuple[str, ...] | None = None
    """Names of fine-tuned models; none for the newest measured one at each amount of labels, of those that were made like the last where
    there are two such amounts."""
    prices: Prices = Prices()
    """Seconds for each act, as long as no tile of this workspace was timed; fitted prices are held to them."""
    fit: CostFitConfig = CostFitConfig()
    """How prices are learned from measured visits, and which were left lying: those do not count for how quick annotation is."""
    picture: bool = True
    """Draw the curve to reports/forecast.png."""


@dataclass(frozen=True)
class Rates:
    """How quick annotation was here: from ``timed_tiles`` tiles that were timed and not left lying, or by prices with every box drawn.

    ``lying_tiles``: those that were left lying. Both rates are those of the tiles left, which hold ``boxes_per_tile`` boxes on average:
    ``density`` says whether by what the newest detector sees there, by annotated tiles that were drawn at random, or by those that were
    timed.
    """

    timed_tiles: int
    lying_tiles: int
    tiles_per_hour: float
    boxes_per_hour: float
    boxes_per_tile: float
    density: Density
    hourly_rate: float
    currency: str


@dataclass(frozen=True)
class ForecastReport:
    """What a budget buys, in one sentence and in numbers.

    ``today`` is nothing spent, ``budget`` the budget asked for, ``ahead`` some steps from today on; ``families`` how much each kind of
    curve counts; ``interval`` the probability of every interval.
    """

    summary: str
    advice: str
    notes: tuple[str, ...]
    split: str
    boxes_annotated: int
    tiles_left: int
    interval: float
    rates: Rates
    stop: Advice
    today: Purchase
    budget: Purchase
    ahead: tuple[Purchase, ...]
    measured: tuple[MeasuredModel, ...]
    families: dict[str, float]
    picture: str | None


@dataclass(frozen=True)
class Work:
    """What tiles took: the pace of the ``timed`` ones, by prices where there are none; ``lying``: those left lying, which do not count.

    ``opening``: seconds of a tile without boxes; ``boxes_left``: expected on a tile that is left, by ``density``.
    """

    timed: int
    lying: int
    pace: Pace
    opening: float
    boxes_left: float
    density: Density


@dataclass(frozen=True, eq=False)
class Prospect:
    """What a forecast is made of before a budget is named: what was measured on ``split``, the curves, the tiles left, and the work."""

    split: str
    annotated: list[AnnotatedTile]
    measured: list[MeasuredModel]
    points: LearningPoints
    curves: CurveEnsemble
    tiles_left: int
    work: Work

    @property
    def boxes_now(self) -> int:
        """On annotated tiles."""
        return sum(tile.boxes for tile in self.annotated)


def forecast(workspace: Workspace, config: ForecastConfig, *, progress: Progress = silent) -> ForecastReport:
    """Draw the learning curves that the measured models leave possible, and price them. Reads only; no lock is taken.

    Raises:
        UsageError: a budget in seconds and one in money.
        BadInput: a budget that is not above 0, no model of a name, a measurement that is no number, no annotated box any more.
        NothingToDo: every tile is annotated, or fewer than two amounts of labels were measured.
    """
    _require_budget(config)
    progress(0, 2, "fitting learning curves")
    found = prospect(workspace, config)
    progress(1, 2, "drawing")
    report = priced(workspace, found, config)
    progress(2, 2, "forecast")
    return report


def prospect(workspace: Workspace, config: ForecastConfig) -> Prospect:
    """Read what was measured and fit the curves: what takes its time, and is the same for every budget.

    Raises:
        BadInput: no model of a name, or a measurement that is no number.
        NothingToDo: every tile is annotated, or fewer than two amounts of labels were measured.
    """
    with workspace.session(write=False) as session:
        annotated = annotated_tiles(session)
        split, measured = _measured(session, annotated, config)
        left = [tile.id for tile in tiles(session, split="train", reviewed=False)]
        worked = worked_visits(session, config.prices, config.fit)
        dense = _boxes_left(workspace, session, annotated, left) if left else None
    if not left:
        raise NothingToDo("every tile of the training ground is annotated: no budget buys more", remedy="Ingest more imagery")
    points = _points(measured)
    work = _work(annotated, measured, worked, dense, config)
    return Prospect(split, annotated, measured, points, fit_curves(points, config), len(left), work)


def priced(workspace: Workspace, found: Prospect, config: ForecastConfig, *, picture: Path | None = None) -> ForecastReport:
    """What the budget of ``config`` buys, of a prospect that was made with the same curves, models and ground; draws it where asked to.

    Args:
        workspace: the reports of which hold the picture that ``config`` asks for.
        found: what was measured, and the curves.
        config: the budget.
        picture: a file to draw to in place of that one.

    Raises:
        UsageError: a budget in seconds and one in money.
        BadInput: a budget that is not above 0, or no annotated box any more.
    """
    _require_budget(config)
    annotated, measured, boxes_now = found.annotated, found.measured, found.boxes_now
    rates = _rates(found, config)
    exchange = Exchange(rates.boxes_per_hour / HOUR, rates.tiles_per_hour / HOUR, config.hourly_rate, found.tiles_left)
    step = exchange.seconds(config.step_money)
    asked = config.budget_seconds or exchange.seconds(config.budget_money or config.step_money)
    spent = np.array([0.0, asked, *(step * times for times in STEPS_AHEAD)])
    today, bought, *ahead = purchases(found.curves, exchange, boxes_now, spent, config)
    advice = advise(found.curves, exchange, boxes_now, config)
    stored = workspace.reports / "forecast.png"
    if picture or config.picture:
        write_learning_curve(_curve(found.points, found.curves, exchange, boxes_now, bought, config), picture or stored)
    return ForecastReport(
        summary=_summary(bought, config),
        advice=_advice(advice, config),
        notes=_notes(annotated, measured, rates, boxes_now, bought, asked),
        split=found.split,
        boxes_annotated=boxes_now,
        tiles_left=found.tiles_left,
        interval=config.interval,
        rates=rates,
        stop=advice,
        today=today,
        budget=bought,
        ahead=tuple(_until_exhausted(ahead)),
        measured=tuple(measured),
        families=found.curves.weights,
        picture=str(stored.relative_to(workspace.root)) if config.picture and not picture else None,
    )


def _require_budget(config: ForecastConfig) -> None:
    if config.budget_seconds is not None and config.budget_money is not None:
        raise UsageError("budget_seconds and budget_money", expected="one of them", remedy="Leave one of them out")
    for name in ("budget_seconds", "budget_money"):
        budget = getattr(config, name)
        if budget is not None and budget <= 0:
            raise BadInput(f"{name} = {budget:g}", expected="above 0", remedy="Say what may be spent, or leave it out")


def _measured(session: Session, annotated: list[AnnotatedTile], config: ForecastConfig) -> tuple[str, list[MeasuredModel]]:
    splits = [config.split] if config.split else ["test", "dev"]
    found = {split: measured_models(session, annotated, split, config.models) for split in splits}
    split = max(splits, key=lambda each: len(found[each]))
    for each in found[split]:
        if each.ap50 is None or not 0 <= each.ap50 <= 1:
            raise BadInput(
                f"AP50 = {each.ap50} of the model {each.model!r} on {split} ground",
                expected="a number in [0, 1]",
                remedy=f"Measure it again: tilehawk evaluate --model {each.model} --split {split}",
            )
    measured = found[split]
    alike = [each for each in measured if each.made == measured[-1].made]
    return split, alike if len(alike) >= FEWEST_AMOUNTS and not config.models else measured


def _points(measured: list[MeasuredModel]) -> LearningPoints:
    if len(measured) < FEWEST_AMOUNTS:
        amounts = f"all learned from {measured[0].boxes} boxes" if measured else "none is"
        raise NothingToDo(
            f"models measured on held-out ground: {amounts}",
            expected="measurements at two amounts of labels at least, better four",
            remedy="Annotate a round, then `tilehawk retrain`; or evaluate the models that there are: tilehawk evaluate --model NAME",
        )
    ap50 = np.array([each.ap50 for each in measured], dtype=np.float64)
    boxes = np.array([each.boxes for each in measured], dtype=np.float64)
    ground = np.array([each.test_boxes or np.inf for each in measured], dtype=np.float64)
    return LearningPoints(boxes, ap50, sampling_error(ap50, ground))


def _boxes_left(workspace: Workspace, session: Session, annotated: list[AnnotatedTile], left: list[int]) -> tuple[float, Density] | None:
    """How many boxes a tile that is left holds on average; None where nothing but the annotated tiles, which were chosen, says so.

    Where a detector has looked at all that is left, and at five annotated tiles, it is what those hold, times what it expects on the others
    over what it expects on them. Else it is what annotated tiles hold that were drawn at random, from five of them on.
    """
    boxes_of = {tile.tile_id: tile.boxes for tile in annotated}
    seen = ranking_predictions(workspace, session, left, None, detector=True)
    if seen is not None:
        there = seen.predictions.tile_ids[np.isin(seen.predictions.tile_ids, [*left, *boxes_of])]
        expected, known = expected_objects(seen, there), np.isin(there, list(boxes_of))
        if known.sum() >= FEWEST_TILES and expected[known].sum() > 0 and expected[~known].sum() > 0:
            counted = np.array([boxes_of[tile_id] for tile_id in there[known].tolist()], dtype=np.float64)
            return float(counted.mean() * expected[~known].mean() / expected[known].mean()), "detector"
    links = ((row, link) for row in rounds(session) if row.strategy != AUDIT for link in round_tiles(session, row))
    drawn = {link.tile_id for row, link in links if row.strategy == "random" or link.reasons.get("audit")} & set(boxes_of)
    found = sum(boxes_of[tile_id] for tile_id in drawn)
    return (found / len(drawn), "drawn") if found and len(drawn) >= FEWEST_TILES else None


def _work(
    annotated: list[AnnotatedTile],
    measured: list[MeasuredModel],
    worked: WorkedVisits,
    dense: tuple[float, Density] | None,
    config: ForecastConfig,
) -> Work:
    """What annotated tiles took: by their visits where those are known, else by their reviews, and never what was left lying."""
    of_tile: dict[int, list[float]] = {}
    for visit, believed in zip(worked.visits, worked.seconds.tolist(), strict=True):
        if visit.seconds > 0:
            of_tile.setdefault(visit.tile, []).append(believed)
    boxes = np.array([tile.boxes for tile in annotated], dtype=np.float64)
    visited = np.array([tile.tile_id in of_tile for tile in annotated], dtype=bool)
    seconds = np.array([sum(of_tile.get(tile.tile_id, [tile.seconds or np.nan])) for tile in annotated], dtype=np.float64)
    lying, timed = visited & np.isnan(seconds), np.isfinite(seconds)
    unknown = timed & ~visited if worked.fitted.visits else timed
    prices = worked.fitted.prices
    lying[unknown] = left_lying(boxes[unknown], seconds[unknown], prices, config.fit)
    counted = timed & ~lying
    if boxes[counted].sum():
        number, pace = int(counted.sum()), Pace(float(seconds[counted].mean()), float(boxes[counted].mean()))
    else:
        held = measured[-1].boxes / measured[-1].tiles
        number, pace = 0, Pace(prices.open + held * prices.draw, held)
    boxes_left, density = dense or (pace.boxes_per_tile, "annotated")
    return Work(number, int(lying.sum()), pace, prices.open, boxes_left, density)


def _rates(found: Prospect, config: ForecastConfig) -> Rates:
    work = found.work
    tiles_per_hour = HOUR / work.pace.seconds_at(work.boxes_left, work.opening)
    return Rates(
        timed_tiles=work.timed,
        lying_tiles=work.lying,
        tiles_per_hour=tiles_per_hour,
        boxes_per_hour=tiles_per_hour * work.boxes_left,
        boxes_per_tile=work.boxes_left,
        density=work.density,
        hourly_rate=config.hourly_rate,
        currency=config.currency,
    )


def _curve(
    points: LearningPoints, ensemble: CurveEnsemble, exchange: Exchange, boxes_now: int, bought: Purchase, config: ForecastConfig
) -> ForecastCurve:
    then = boxes_now + bought.boxes
    shown = np.linspace(points.amounts.min() / 2, then + 0.15 * (then - points.amounts.min()), GRID)
    outer = [(1 - config.interval) / 2, 0.5, (1 + config.interval) / 2]
    low, middle, high = np.quantile(ensemble.measured(shown), outer, axis=0)
    return ForecastCurve(
        measured_boxes=points.amounts,
        measured_ap50=points.ap50,
        errors=points.errors,
        boxes=shown,
        low=low,
        middle=middle,
        high=high,
        interval=config.interval,
        boxes_now=boxes_now,
        boxes_then=then,
        hours_per_box=1 / (exchange.boxes_per_second * HOUR),
        hourly_rate=config.hourly_rate,
        currency=config.currency,
    )


def _until_exhausted(ahead: list[Purchase]) -> list[Purchase]:
    """The purchases up to the first that takes every tile left."""
    return [each for number, each in enumerate(ahead) if not number or each.seconds > ahead[number - 1].seconds]


def _money(amount: float, config: ForecastConfig) -> str:
    whole = amount >= CENTS_BELOW or abs(amount - round(amount)) < 0.005
    return f"{amount:,.0f} {config.currency}" if whole else f"{amount:,.2f} {config.currency}"


def _summary(bought: Purchase, config: ForecastConfig) -> str:
    return (
        f"{_money(bought.money, config)} buys {bought.tiles:,} tiles, {bought.boxes:,} boxes, {bought.hours:,.1f} hours; "
        f"AP50 {bought.ap50:.3f} ({bought.low:.3f} to {bought.high:.3f}); "
        + (
            f"the next {_money(bought.next_money, config)} adds {bought.next_gain:.3f} ({bought.next_low:.3f} to {bought.next_high:.3f})"
            if bought.next_money
            else "no tile is left after that"
        )
    )


def _advice(advice: Advice, config: ForecastConfig) -> str:
    step = _money(advice.step_money, config)
    only = ", all that is left to spend," if advice.step_money < config.step_money else ""
    bar = f"{advice.least_gain:.2g}"
    expected = f"the next {step}{only} is expected to add {advice.expected_gain:.3f}, and {bar} or more with {advice.probability:.0%}"
    if advice.stop:
        return f"Stop: {expected}"
    return f"Go on: {expected}; after {_money(advice.worth_money, config)} " + (
        "no tile is left" if only else "the next step is expected to add less"
    )


def _notes(
    annotated: list[AnnotatedTile], measured: list[MeasuredModel], rates: Rates, boxes_now: int, bought: Purchase, asked: float
) -> tuple[str, ...]:
    untimed = len(annotated) - rates.timed_tiles - rates.lying_tiles
    newest = measured[-1].boxes
    made = len({each.made for each in measured})
    said = {
        "Only two amounts of labels were measured: the interval is mostly what is known of learning curves in general": len(measured) == 2,
        f"{boxes_now - newest:+} boxes since the newest measured model, annotated or changed": boxes_now != newest,
        f"{untimed} of {len(annotated)} annotated tiles were not timed: rates come from the others": rates.timed_tiles > 0 < untimed,
        f"{rates.lying_tiles} of {len(annotated)} annotated tiles were left lying and do not count": rates.lying_tiles > 0,
        "Of annotated tiles with boxes, none was timed that was not left lying: rates come from prices, with every box drawn"
        if rates.lying_tiles
        else "No annotated tile with boxes was timed: rates come from prices, with every box drawn": rates.timed_tiles == 0,
        f"Tiles left are taken to hold as many boxes as annotated ones, {rates.boxes_per_tile:.1f}: if those were chosen for having many, "
        "there are fewer. Predictions on all train tiles would tell": rates.density == "annotated",
        "The models were not all made alike (architecture, schedule, start): not all of the curve is due to labels": made > 1,
        "The models were measured on different tiles: their AP50 may not be comparable": len({each.test_tiles for each in measured}) > 1,
        "The budget is larger than what annotating every tile left takes": bought.seconds < asked,
        f"This looks at {(boxes_now + bought.boxes) / newest:.1f} times the labels that were measured; nothing measured says how the curve "
        "goes on so far out": boxes_now + bought.boxes > FAR * newest,
    }
    return tuple(note for note, holds in said.items() if holds)
