"""What replays say together: AP50 over an annotator's seconds, and the seconds that a strategy needs to get somewhere."""

from __future__ import annotations

import json
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

__all__ = ["Comparison", "Curve", "Reached", "compare", "read_curves"]

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
STEPS = 41


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
    """Seconds to an AP50: of each seed that got there, their mean and 95 % interval (Student's t), and how many did not get there."""

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
    ``to_share``: by share of the AP50 that all labels give, the seconds of each seed.
    """

    grid: tuple[float, ...]
    mean: dict[str, tuple[float | None, ...]]
    interval: dict[str, tuple[tuple[float, float] | None, ...]]
    final: dict[str, float]
    target: float
    to_target: dict[str, float | None]
    ratio: dict[str, float | None]
    to_share: dict[str, dict[str, Reached]]


def read_curves(folder: Path) -> list[Curve]:
    """The curves of every replay in ``folder`` that came to its end, by strategy and seed; files of other kinds are passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("rounds") and _finished(document):
            found.append(_curve(document))
    return sorted(found, key=lambda curve: (curve.strategy, curve.seed))


def compare(
    curves: Sequence[Curve], *, control: str = "random", full_ap50: float | None = None, shares: Sequence[float] = (0.8, 0.9)
) -> Comparison:
    """Hold strategies against the control, each on the seeds that both have; one without any is left out.

    Args:
        curves: of several strategies.
        control: whose mean AP50 after its last round is the target.
        full_ap50: what all labels give.
        shares: of that, to which the seconds are asked.

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
    against = {name: _control_of(runs, by[control]) for name, runs in by.items()}
    to_target = {name: curve.reaches(against[name].ap50[-1]) for name, curve in means.items()}
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
        to_target=to_target,
        ratio={name: None if seconds is None else seconds / _seconds_of(against[name]) for name, seconds in to_target.items()},
        to_share={
            label: {name: _reached([curve.reaches(goal) for curve in runs]) for name, runs in by.items()} for label, goal in goals.items()
        },
    )


def _finished(document: Mapping[str, Any]) -> bool:
    """Whether all budgets were replayed, or nothing was left to visit."""
    return document.get("ended", False) or "config" not in document or len(document["rounds"]) > len(document["config"]["budgets"])


def _control_of(runs: Sequence[Curve], control: Sequence[Curve]) -> Curve:
    """The control's mean curve on the seeds of ``runs``."""
    seeds = {curve.seed for curve in runs}
    return _mean_curve([curve for curve in control if curve.seed in seeds])


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
    return Reached(there, statistics.mean(there) if there else None, _interval(there), len(seconds) - len(there))
