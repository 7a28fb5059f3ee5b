"""What replays say together: AP50 over an annotator's seconds, and the seconds that a strategy needs to get somewhere."""

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

__all__ = ["Comparison", "Curve", "Reached", "compare", "read_comparison", "read_curves"]

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
STEPS = 41
DRAWING = (7.0, 15.0, 35.0)
"""Seconds to draw a box at which strategies are held against the control too: the literature measures 7 to 35."""


@dataclass(frozen=True)
class Curve:
    """One strategy and seed: what was spent up to each round, in seconds, boxes and tiles, and the AP50 (in [0, 1]) that came of it."""

    strategy: str
    seed: int
    seconds: tuple[float, ...]
    boxes: tuple[int, ...]
    tiles: tuple[int, ...]
    ap50: tuple[float, ...]
    acts: tuple[dict[str, int], ...] = ()
    """verified, edited, drawn, deleted up to each round"""

    def repriced(self, prices: Prices) -> Curve:
        """The same visits at other prices, without noise: what it would have cost another annotator. Density is not counted."""
        priced = {"verified": prices.verify, "edited": prices.edit, "drawn": prices.draw, "deleted": prices.delete}
        seconds = tuple(
            prices.open * tiles + sum(price * acts[act] for act, price in priced.items())
            for tiles, acts in zip(self.tiles, self.acts, strict=True)
        )
        return Curve(self.strategy, self.seed, seconds, self.boxes, self.tiles, self.ap50, self.acts)

    def reaches(self, ap50: float) -> float | None:
        """Seconds after which the AP50 is first at ``ap50``, in between rounds on a straight line; None where it never is."""
        for place, value in enumerate(self.ap50):
            if value >= ap50:
                if not place:
                    return self.seconds[0]
                before = self.ap50[place - 1]
                share = (ap50 - before) / (value - before)
                return self.seconds[place - 1] + share * (self.seconds[place] - self.seconds[place - 1])
        return None

    def at(self, seconds: Floats) -> Floats:
        """AP50 (n,) at ``seconds`` (n,), on straight lines between rounds; NaN outside of them."""
        return np.interp(seconds, self.seconds, self.ap50, left=np.nan, right=np.nan)


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
class Comparison:
    """Strategies side by side.

    A strategy counts with the seeds that the control has too, and is held against the control on these. ``grid`` in seconds, ``mean`` and
    ``interval`` of the AP50 there by strategy; ``final``: mean AP50 after the last round; ``target``: that of the control, on all its
    seeds, after as many rounds as all of them have; ``to_target``: seconds in which the mean curve is first at the target of its seeds;
    ``ratio``: of these to those of the control, which may be there before its budget is spent, None where the target is not reached;
    ``ratio_interval``: of the ratios of single seeds, each to where the control of its seed ends, 95 % (Student's t of their logarithms),
    None with one seed or where a seed falls short; ``ratio_at``: ``ratio`` by the seconds that drawing a box takes, all else as it was
    priced, without noise and density; ``to_share``: by share of the AP50 that all labels give, the seconds of each seed.
    """

    grid: tuple[float, ...]
    mean: dict[str, tuple[float | None, ...]]
    interval: dict[str, tuple[tuple[float, float] | None, ...]]
    final: dict[str, float]
    target: float
    to_target: dict[str, float | None]
    ratio: dict[str, float | None]
    ratio_interval: dict[str, tuple[float, float] | None]
    ratio_at: dict[str, dict[str, float | None]]
    to_share: dict[str, dict[str, Reached]]

    @property
    def best(self) -> str | None:
        """The strategy that needs the least of the control's time, of those whose interval lies below 1; None where there is no such."""
        told = [(self.ratio[name] or 0.0, name) for name, band in self.ratio_interval.items() if band is not None and band[1] < 1]
        return min(told)[1] if told else None


def read_curves(folder: Path) -> list[Curve]:
    """The curves of every replay in ``folder`` that came to its end, by strategy and seed; files of other kinds are passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("rounds") and _finished(document):
            found.append(_curve(document))
    return sorted(found, key=lambda curve: (curve.strategy, curve.seed))


def compare(
    curves: Sequence[Curve],
    *,
    control: str = "random",
    full_ap50: float | None = None,
    shares: Sequence[float] = (0.8, 0.9),
    prices: Prices | None = None,
) -> Comparison:
    """Hold strategies against the control, each on the seeds that both have; one without any is left out.

    Args:
        curves: of several strategies.
        control: whose mean AP50 after its last round is the target.
        full_ap50: what all labels give.
        shares: of that, to which the seconds are asked.
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
    held = [curve for runs in by.values() for curve in runs]
    first, last = min(curve.seconds[0] for curve in held), max(curve.seconds[-1] for curve in held)
    grid = np.linspace(first, last, STEPS).astype(np.float64)
    means = {name: _mean_curve(runs) for name, runs in by.items()}
    priced = prices or Prices()
    bands = {
        name: [_interval([curve.at(grid[step : step + 1])[0] for curve in runs]) for step in range(STEPS)] for name, runs in by.items()
    }
    goals = {} if full_ap50 is None else {f"{share:.0%}": share * full_ap50 for share in shares}
    return Comparison(
        grid=tuple(grid.tolist()),
        mean={name: tuple(None if np.isnan(value) else float(value) for value in curve.at(grid)) for name, curve in means.items()},
        interval={name: tuple(band) for name, band in bands.items()},
        final={name: statistics.mean(curve.ap50[-1] for curve in runs) for name, runs in by.items()},
        target=means[control].ap50[-1],
        to_target={name: curve.reaches(_control_of(by[name], by[control]).ap50[-1]) for name, curve in means.items()},
        ratio=_ratios(by, control),
        ratio_interval={name: None if name == control else _ratio_interval(runs, by[control]) for name, runs in by.items()},
        ratio_at={f"{seconds:g} s a box": _ratios(_repriced(by, priced, seconds), control) for seconds in DRAWING},
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
    full = [each["measured"]["ap50"] for each in documents if "measured" in each]
    made = (each.get("config", {}).get("selection", {}).get("prices") for each in documents)
    prices: Mapping[str, Any] = next((each for each in made if each), {})
    full_ap50 = statistics.mean(full) if full else None
    return compare(read_curves(folder), control=control, full_ap50=full_ap50, prices=Prices.from_mapping(prices))


def _finished(document: Mapping[str, Any]) -> bool:
    """Whether all budgets were replayed, or nothing was left to visit."""
    return document.get("ended", False) or "config" not in document or len(document["rounds"]) > len(document["config"]["budgets"])


def _control_of(runs: Sequence[Curve], control: Sequence[Curve]) -> Curve:
    """The control's mean curve on the seeds of ``runs``."""
    seeds = {curve.seed for curve in runs}
    return _mean_curve([curve for curve in control if curve.seed in seeds])


def _ratios(by: Mapping[str, Sequence[Curve]], control: str) -> dict[str, float | None]:
    """Of each strategy the seconds in which its mean curve is where the control's ends, to the control's own."""
    found: dict[str, float | None] = {}
    for name, runs in by.items():
        against = _control_of(runs, by[control])
        seconds = _mean_curve(runs).reaches(against.ap50[-1])
        found[name] = None if seconds is None else seconds / _seconds_of(against)
    return found


def _ratio_interval(runs: Sequence[Curve], control: Sequence[Curve]) -> tuple[float, float] | None:
    """The interval of the ratios of single seeds; None with fewer than two, or where one never is where the control of its seed ends."""
    against = {curve.seed: curve for curve in control}
    reached = [curve.reaches(against[curve.seed].ap50[-1]) for curve in runs]
    found = [seconds / _seconds_of(against[curve.seed]) for curve, seconds in zip(runs, reached, strict=True) if seconds is not None]
    if len(found) < max(len(runs), 2):
        return None
    band = _interval([math.log(ratio) for ratio in found])
    return None if band is None else (math.exp(band[0]), math.exp(band[1]))


def _repriced(by: Mapping[str, Sequence[Curve]], prices: Prices, draw: float) -> dict[str, list[Curve]]:
    at = prices.model_copy(update={"draw": draw})
    return {name: [curve.repriced(at) for curve in runs] for name, runs in by.items()}


def _seconds_of(control: Curve) -> float:
    """Seconds in which the control is first where it ends."""
    seconds = control.reaches(control.ap50[-1])
    assert seconds is not None, "a point of the curve itself"
    return seconds


def _curve(document: Mapping[str, Any]) -> Curve:
    rounds = document["rounds"]
    return Curve(
        document["strategy"],
        document["seed"],
        tuple(each["seconds"] for each in rounds),
        tuple(each["boxes"] for each in rounds),
        tuple(each["tiles"] for each in rounds),
        tuple(each["measured"]["ap50"] for each in rounds),
        tuple({act: each[act] for act in ("verified", "edited", "drawn", "deleted")} for each in rounds),
    )


def _mean_curve(runs: Sequence[Curve]) -> Curve:
    """Round by round the mean of what was spent and of what it brought, over as many rounds as all have."""
    rounds = min(len(curve.ap50) for curve in runs)
    seconds, ap50 = (np.mean([getattr(curve, name)[:rounds] for curve in runs], axis=0) for name in ("seconds", "ap50"))
    return Curve(runs[0].strategy, -1, tuple(seconds.tolist()), (), (), tuple(ap50.tolist()))


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
