"""What a budget buys, what the next one adds, and when to stop: learning curves in boxes, hours and money."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.errors import BadInput
from engine.selection.forecast.ensemble import CurveConfig, CurveEnsemble
from engine.selection.money import HOUR, MoneyConfig

__all__ = ["HOUR", "Advice", "BudgetConfig", "Exchange", "Purchase", "advise", "purchases"]

Floats = NDArray[np.float64]
FARTHEST_STEP = 50
"""Advice looks so many steps ahead at most: 50 times the next 1,000 €."""


class BudgetConfig(CurveConfig, MoneyConfig):
    """How budgets are priced and judged."""

    interval: float = Field(default=0.8, gt=0, lt=1)
    """Probability with which the AP50 that will be measured lies in the interval."""
    step_money: float = Field(default=1000.0, gt=0)
    """The next step, whose gain is told."""
    least_gain: float = Field(default=0.01, gt=0, lt=1)
    """A step that is expected to add less AP50 than this is not worth its money; where less is left to spend, as much less will do."""


@dataclass(frozen=True)
class Exchange:
    """What an annotator does in a second, what an hour costs, and how many tiles are left to annotate.

    Raises:
        BadInput: a rate that is not finite or not above 0, or a negative number of tiles.
    """

    boxes_per_second: float
    tiles_per_second: float
    hourly_rate: float
    tiles_left: int

    def __post_init__(self) -> None:
        for name in ("boxes_per_second", "tiles_per_second", "hourly_rate"):
            rate = getattr(self, name)
            if not (np.isfinite(rate) and rate > 0):
                raise BadInput(f"{name} = {rate}", expected="above 0")
        if self.tiles_left < 0:
            raise BadInput(f"tiles_left = {self.tiles_left}", expected="0 or more")

    @property
    def seconds_left(self) -> float:
        """What annotating everything that is left would take."""
        return self.tiles_left / self.tiles_per_second

    def seconds(self, money: float) -> float:
        """The seconds that ``money`` pays for."""
        return money / self.hourly_rate * HOUR


@dataclass(frozen=True)
class Purchase:
    """What an amount of money, counted from today, buys.

    ``seconds``, ``hours`` and ``money`` are what is spent: less than the budget where no tile is left for the rest; ``tiles`` and
    ``boxes`` come on top of those of today. ``ap50`` is the median of what will be measured, which lies in [``low``, ``high``] with the
    probability of the interval. ``gain`` is the expected gain over today, ``next_gain`` that of one step more with its interval, and
    ``next_worth`` the probability that the step adds the least gain or more. ``next_money`` is what that step costs: less than a step where
    the tiles left do not last for one, 0 where none is left; the least gain is that share of what it is for a whole step.
    """

    seconds: float
    hours: float
    money: float
    tiles: int
    boxes: int
    ap50: float
    low: float
    high: float
    gain: float
    next_gain: float
    next_low: float
    next_high: float
    next_worth: float
    next_money: float


@dataclass(frozen=True)
class Advice:
    """Whether to stop today: no number of steps is expected to add the least gain for each of them.

    ``expected_gain`` is that of the next step, ``least_gain`` the bar for it and ``step_money`` the cost of that step, both smaller where
    less than a step is left to spend; ``probability`` that the step adds the least gain or more. ``worth_money`` is how much may be spent
    before further steps are expected to add less: whole steps, at most 50 of them and what all tiles left cost.
    """

    stop: bool
    expected_gain: float
    probability: float
    worth_money: float
    step_money: float
    least_gain: float


def purchases(
    ensemble: CurveEnsemble, exchange: Exchange, boxes_now: float, budgets_seconds: Floats, config: BudgetConfig
) -> list[Purchase]:
    """What each of ``budgets_seconds`` (m,) buys; amounts of ``ensemble`` are boxes.

    Args:
        ensemble: the learning curves, over annotated boxes.
        exchange: what a second brings and costs.
        boxes_now: annotated so far, above 0.
        budgets_seconds: seconds of annotators from today on, 0 or more.
        config: interval, step and least gain.

    Raises:
        BadInput: a budget that is negative or not finite, or nothing annotated.
    """
    if not boxes_now > 0:
        raise BadInput(f"{boxes_now} annotated boxes", expected="1 at least: a learning curve says nothing of no labels")
    wrong = ~(np.isfinite(budgets_seconds) & (budgets_seconds >= 0))
    if wrong.any():
        raise BadInput(f"a budget of {budgets_seconds[wrong][0]} s", expected="0 or more")
    spent = np.minimum(budgets_seconds, exchange.seconds_left)
    then = np.minimum(spent + exchange.seconds(config.step_money), exchange.seconds_left)
    boxes, boxes_then = (boxes_now + seconds * exchange.boxes_per_second for seconds in (spent, then))
    outer = [(1 - config.interval) / 2, 0.5, (1 + config.interval) / 2]
    low, middle, high = np.quantile(ensemble.measured(boxes), outer, axis=0)
    curves = ensemble.curves(boxes)
    step = ensemble.curves(boxes_then) - curves
    next_low, _, next_high = np.quantile(step, outer, axis=0)
    gain = (curves - ensemble.curves(np.array([boxes_now]))).mean(0)
    least = config.least_gain * (then - spent) / exchange.seconds(config.step_money)
    return [
        Purchase(
            seconds=float(spent[index]),
            hours=float(spent[index] / HOUR),
            money=float(spent[index] / HOUR * exchange.hourly_rate),
            tiles=round(spent[index] * exchange.tiles_per_second),
            boxes=round(spent[index] * exchange.boxes_per_second),
            ap50=float(middle[index]),
            low=float(low[index]),
            high=float(high[index]),
            gain=float(gain[index]),
            next_gain=float(step[:, index].mean()),
            next_low=float(next_low[index]),
            next_high=float(next_high[index]),
            next_worth=float((step[:, index] >= least[index]).mean()),
            next_money=float((then[index] - spent[index]) / HOUR * exchange.hourly_rate),
        )
        for index in range(len(spent))
    ]


def advise(ensemble: CurveEnsemble, exchange: Exchange, boxes_now: float, config: BudgetConfig) -> Advice:
    """Whether to go on, and for how many steps: so many that what they are expected to add lies furthest above the least gain for each.

    Where each step adds less than the one before, these are the steps that add the least gain themselves. A curve that has only begun to
    rise may ask for a poor step before better ones.
    """
    steps = np.arange(FARTHEST_STEP + 1, dtype=np.float64) * exchange.seconds(config.step_money)
    ahead = purchases(ensemble, exchange, boxes_now, steps, config)
    bars = np.array([config.least_gain * each.next_money / config.step_money for each in ahead])
    beyond = np.array([each.gain for each in ahead]) - np.concatenate([[0.0], bars[:-1].cumsum()])
    worth = int(np.argmax(np.round(beyond, 9)))
    today = ahead[0]
    return Advice(worth == 0, today.next_gain, today.next_worth, ahead[worth].money, today.next_money, float(bars[0]))
