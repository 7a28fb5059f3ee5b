"""Strategies side by side: in how much of the control's time each is where the control ends, and which can be told from it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from engine.errors import NothingToDo
from engine.selection.cost import Prices
from engine.simulation.curves import UNITS, Curve, Unit, read_curves

__all__ = ["Axis", "Comparison", "Reached", "compare", "read_comparison"]

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
STEPS = 41
LEAST_LOOKS = 3.0
"""So often a model of all labels has seen each tile at least, where shares of its AP50 are asked for."""
DRAWING = (7.0, 15.0, 35.0)
"""Seconds to draw a box at which strategies are held against the control too: the literature measures 7 to 35."""


@dataclass(frozen=True)
class Reached:
    """Seconds to an AP50: of each seed that got there, and how many did not; mean and 95 % interval (Student's t) where all did.

    A mean of those that got there would flatter a strategy whose worse seeds did not.
    """

    seconds: tuple[float, ...]
    mean: float | None
    interval: tuple[float, float] | None
    short: int


@dataclass(frozen=True)
class Axis:
    """The curves over seconds, boxes or tiles, by strategy: ``mean`` and ``interval`` of the AP50 where the amounts of ``grid`` are spent.

    ``to_target``: what is spent when the mean curve is first at the target of its seeds; ``ratio``: of that to what the control has spent
    when it is first there, which may be before its budget is spent; None where the target is not reached, or the control spent nothing.
    """

    grid: tuple[float, ...]
    mean: dict[str, tuple[float | None, ...]]
    interval: dict[str, tuple[tuple[float, float] | None, ...]]
    to_target: dict[str, float | None]
    ratio: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """Strategies side by side.

    A strategy counts with the seeds that the control has too, and is held against the control on these. ``unit``: what budgets were
    counted in; ``axes``: the curves over all that was spent, however budgets were counted; ``final``: mean AP50 after the last round;
    ``target``: that of the control, on all its seeds, after as many rounds as all of them have; ``ratio_interval``: of the ratios of
    seconds of single seeds, each to where the control of its seed ends, 95 % (Student's t of their logarithms), None with one seed or where
    a seed falls short; ``p_value``: two-sided of that, corrected for how many strategies are held against the control (Holm, 1979), while
    the interval is that of a single comparison; ``ratio_at``: ``ratio`` by the seconds that drawing a box takes, all else as it was
    priced, without noise and density; ``full_ap50``: what all labels give, to a model that saw each tile ``full_looks`` times on average;
    ``to_share``: by share of that AP50, the seconds of each seed, left out where it saw them less than three times: such a model flatters
    every strategy.
    """

    unit: Unit
    axes: dict[Unit, Axis]
    final: dict[str, float]
    target: float
    ratio_interval: dict[str, tuple[float, float] | None]
    p_value: dict[str, float | None]
    ratio_at: dict[str, dict[str, float | None]]
    full_ap50: float | None
    full_looks: float | None
    to_share: dict[str, dict[str, Reached]]

    @property
    def to_target(self) -> dict[str, float | None]:
        """Seconds."""
        return self.axes["seconds"].to_target

    @property
    def ratio(self) -> dict[str, float | None]:
        """Of seconds."""
        return self.axes["seconds"].ratio

    @property
    def shares_left_out(self) -> str | None:
        """Why no share of what all labels give is asked for; None where there is nothing to leave out."""
        if self.full_ap50 is None or _learned_enough(self.full_looks):
            return None
        how = "nobody knows how often" if self.full_looks is None else f"it saw each of them {self.full_looks:.1f} times"
        return (
            f"shares of what all labels give are left out: the model that learned from them should have seen each tile {LEAST_LOOKS:g} "
            f"times at least, and {how}"
        )

    @property
    def best(self) -> str | None:
        """The strategy that needs the least of the control's time; None where there is no such.

        Of those whose mean curve gets to where the control ends in less time, and whose single seeds do so with a corrected ``p_value``
        below 0.05: the claim holds for all strategies together, however many were tried.
        """
        told = [(self.ratio[name], name) for name, p_value in self.p_value.items() if p_value is not None and p_value < 1 - CONFIDENCE]
        quicker = [(ratio, name) for ratio, name in told if ratio is not None and ratio < 1 and self._below_one(name)]
        return min(quicker)[1] if quicker else None

    def _below_one(self, name: str) -> bool:
        band = self.ratio_interval[name]
        return band is not None and band[1] < 1


def compare(
    curves: Sequence[Curve],
    *,
    control: str = "random",
    full_ap50: float | None = None,
    full_looks: float | None = None,
    shares: Sequence[float] = (0.8, 0.9),
    unit: Unit = "seconds",
    prices: Prices | None = None,
) -> Comparison:
    """Hold strategies against the control, each on the seeds that both have; one without any is left out.

    Args:
        curves: of several strategies.
        control: whose mean AP50 after its last round is the target.
        full_ap50: what all labels give.
        full_looks: how often the model that learned from them saw each tile; None where nobody knows.
        shares: of that, to which the seconds are asked.
        unit: what budgets were counted in.
        prices: by which visits were charged; None for the priors.

    Raises:
        NothingToDo: no curve of the control.
    """
    by: dict[str, list[Curve]] = {}
    for curve in curves:
        by.setdefault(curve.strategy, []).append(curve)
    if control not in by:
        raise NothingToDo(f"no replay of the strategy {control!r} to hold {sorted(by)} against", remedy=f"Replay {control} too")
    seeds = {curve.seed for curve in by[control]}
    common = {name: [curve for curve in runs if curve.seed in seeds] for name, runs in by.items()}
    by = {name: runs for name, runs in common.items() if runs}
    priced = prices or Prices()
    logarithms = {name: _log_ratios(runs, by[control]) for name, runs in by.items() if name != control}
    known = full_ap50 if _learned_enough(full_looks) else None
    goals = {} if known is None else {f"{share:.0%}": share * known for share in shares}
    return Comparison(
        unit=unit,
        axes={each: _axis(by, control, each) for each in UNITS},
        final={name: statistics.mean(curve.ap50[-1] for curve in runs) for name, runs in by.items()},
        target=_mean_curve(by[control]).ap50[-1],
        ratio_interval={name: _ratio_interval(logarithms.get(name)) for name in by},
        p_value=dict.fromkeys(by) | _holm({name: _p_value(found) for name, found in logarithms.items()}),
        ratio_at={f"{seconds:g} s a box": _ratios(_repriced(by, priced, seconds), control) for seconds in DRAWING},
        full_ap50=full_ap50,
        full_looks=full_looks,
        to_share={
            label: {name: _reached([curve.reaches(goal) for curve in runs]) for name, runs in by.items()} for label, goal in goals.items()
        },
    )


def read_comparison(folder: Path, *, control: str = "random") -> Comparison:
    """What the replays in ``folder`` say together, by the prices and the model of all labels that its files tell of.

    Raises:
        NothingToDo: no curve of the control.
    """
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-*.json"))]
    full = [each for each in documents if "measured" in each]
    looks = [each.get("looks") for each in full]
    made = (each.get("config", {}).get("selection", {}).get("prices") for each in documents)
    prices: Mapping[str, Any] = next((each for each in made if each), {})
    units = (each["config"].get("unit") for each in documents if "config" in each)
    return compare(
        read_curves(folder),
        control=control,
        full_ap50=statistics.mean(each["measured"]["ap50"] for each in full) if full else None,
        full_looks=min(looks) if looks and None not in looks else None,
        prices=Prices.from_mapping(prices),
        unit=next((each for each in units if each), "seconds"),
    )


def _learned_enough(looks: float | None) -> bool:
    return looks is not None and looks >= LEAST_LOOKS


def _control_of(runs: Sequence[Curve], control: Sequence[Curve]) -> Curve:
    """The control's mean curve on the seeds of ``runs``."""
    seeds = {curve.seed for curve in runs}
    return _mean_curve([curve for curve in control if curve.seed in seeds])


def _axis(by: Mapping[str, Sequence[Curve]], control: str, unit: Unit) -> Axis:
    held = [curve.spent(unit) for runs in by.values() for curve in runs]
    grid = np.linspace(min(spent[0] for spent in held), max(spent[-1] for spent in held), STEPS).astype(np.float64)
    means = {name: _mean_curve(runs) for name, runs in by.items()}
    singly = {name: np.asarray([curve.at(grid, unit) for curve in runs]) for name, runs in by.items()}
    return Axis(
        grid=tuple(grid.tolist()),
        mean={name: tuple(None if np.isnan(value) else float(value) for value in curve.at(grid, unit)) for name, curve in means.items()},
        interval={name: tuple(_interval(values.tolist()) for values in found.T) for name, found in singly.items()},
        to_target={name: curve.reaches(_control_of(by[name], by[control]).ap50[-1], unit) for name, curve in means.items()},
        ratio=_ratios(by, control, unit),
    )


def _ratios(by: Mapping[str, Sequence[Curve]], control: str, unit: Unit = "seconds") -> dict[str, float | None]:
    """Of each strategy what is spent when its mean curve is where the control's ends, to the control's own."""
    found: dict[str, float | None] = {}
    for name, runs in by.items():
        against = _control_of(runs, by[control])
        spent = _mean_curve(runs).reaches(against.ap50[-1], unit)
        of_control = _spent_by(against, unit)
        found[name] = None if spent is None or not of_control else spent / of_control
    return found


def _log_ratios(runs: Sequence[Curve], control: Sequence[Curve]) -> list[float] | None:
    """Logarithms of the ratios of single seeds; None with fewer than two, or where one never is where the control of its seed ends."""
    against = {curve.seed: curve for curve in control}
    reached = [curve.reaches(against[curve.seed].ap50[-1]) for curve in runs]
    found = [seconds / _spent_by(against[curve.seed]) for curve, seconds in zip(runs, reached, strict=True) if seconds is not None]
    return None if len(found) < max(len(runs), 2) else [math.log(ratio) for ratio in found]


def _ratio_interval(logarithms: Sequence[float] | None) -> tuple[float, float] | None:
    band = _interval(logarithms or [])
    return None if band is None else (math.exp(band[0]), math.exp(band[1]))


def _p_value(logarithms: Sequence[float] | None) -> float | None:
    """Two-sided, of Student's t: how often seeds that are on average as quick as the control would differ from it so clearly."""
    if not logarithms:
        return None
    mean, spread = statistics.mean(logarithms), statistics.stdev(logarithms) / len(logarithms) ** 0.5
    if not spread:
        return 0.0 if mean else 1.0
    return float(2 * stats.t.sf(abs(mean) / spread, len(logarithms) - 1))


def _holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Each times the number of comparisons that are no clearer, never below that of a clearer one; one without any counts as the last."""
    clearest = sorted((value, name) for name, value in p_values.items() if value is not None)
    found: dict[str, float | None] = dict.fromkeys(p_values)
    least = 0.0
    for place, (value, name) in enumerate(clearest):
        least = max(least, min(1.0, (len(p_values) - place) * value))
        found[name] = least
    return found


def _repriced(by: Mapping[str, Sequence[Curve]], prices: Prices, draw: float) -> dict[str, list[Curve]]:
    at = prices.model_copy(update={"draw": draw})
    return {name: [curve.repriced(at) for curve in runs] for name, runs in by.items()}


def _spent_by(control: Curve, unit: Unit = "seconds") -> float:
    """What the control has spent when it is first where it ends."""
    spent = control.reaches(control.ap50[-1], unit)
    assert spent is not None, "a point of the curve itself"
    return spent


def _mean_curve(runs: Sequence[Curve]) -> Curve:
    """Round by round the mean of what was spent and of what it brought, over as many rounds as all have."""
    rounds = min(len(curve.ap50) for curve in runs)
    amounts = [[curve.spent(unit)[:rounds] for curve in runs] for unit in UNITS]
    every = np.mean([*amounts, [curve.ap50[:rounds] for curve in runs]], axis=1).tolist()
    seconds, boxes, tiles, ap50 = (tuple(values) for values in every)
    return Curve(runs[0].strategy, -1, seconds, boxes, tiles, ap50)


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    known = [value for value in values if not np.isnan(value)]
    if len(known) < 2:
        return None
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * statistics.stdev(known) / len(known) ** 0.5
    return statistics.mean(known) - reach, statistics.mean(known) + reach


def _reached(seconds: Sequence[float | None]) -> Reached:
    there = tuple(value for value in seconds if value is not None)
    short = len(seconds) - len(there)
    return Reached(there, None, None, short) if short else Reached(there, statistics.mean(there), _interval(there), 0)
