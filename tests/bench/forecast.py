"""How often the forecast is right, two rounds ahead: on drawn learning curves, and on recorded ones.

    python tests/bench/forecast.py OUT.json simulated [--curves reported] [--cases 3000] [--seed 1]
    python tests/bench/forecast.py OUT.json recorded FOLDER… [--test-boxes N]

simulated: each case draws a curve, the amounts of labels of its rounds and the noise of its measurements; all rounds but the last two are
known. ``--curves tuning`` draws power laws, logarithms, Weibull curves, sums of two exponentials, and exponentials that are flat soon: on
those the shapes of engine/selection/forecast and their priors were chosen. ``--curves reported`` draws other kinds: arctangents, algebraic
roots, sigmoids in the logarithm of the amount, broken logarithms, and power laws with a drift.

recorded: a FOLDER holds one file STRATEGY-SEED.json for each run of a budget, a list of {"boxes": …, "seconds": …, "ap50": …} in the
order of its rounds: annotated boxes and annotator seconds up to the measurement, AP50 in [0, 1]; "test_boxes", the true boxes of the ground
it was measured on, may stand beside them, else it is N; with neither, the error of that ground counts for nothing. The files of
engine/simulation/replay.py, with their list under "rounds", AP50 and "test_boxes" under "measured", are read too; a file without rounds is
passed over. Every run is asked from its second round on, each time for the measurement
two rounds later: at the seconds that it took, and at the boxes. What came before the first second or box is left out.

A case counts as covered where the AP50 that was measured, noise included, lies in the 80 % interval. Beside the forecast stands what one
would say without it: that nothing changes any more, and the line through the last two measurements over the logarithm of the amount.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.files import write_json
from engine.selection.forecast.ensemble import CurveConfig, LearningPoints, fit_curves, sampling_error

Floats = NDArray[np.float64]
AHEAD = 2
FEWEST, MOST = 2, 7
"""Rounds that are known when the forecast is asked for."""
LEVELS = [0.1, 0.5, 0.9]


def level_and_limit(chance: np.random.Generator) -> tuple[float, float]:
    """AP50 after the first round, and in the end."""
    level = chance.uniform(0.05, 0.5)
    return level, chance.uniform(max(level + 0.1, 0.4), 0.95)


def between(chance: np.random.Generator, low: float, high: float) -> float:
    """Even on the scale of the logarithm."""
    return float(np.exp(chance.uniform(np.log(low), np.log(high))))


def power_law(chance: np.random.Generator, amounts: Floats) -> Floats:
    level, limit = level_and_limit(chance)
    return limit - (limit - level) * amounts ** -between(chance, 0.2, 1.5)


def logarithm(chance: np.random.Generator, amounts: Floats) -> Floats:
    level, limit = level_and_limit(chance)
    return np.minimum(level + (limit - level) * np.log(amounts) / np.log(chance.uniform(4, 40)), 0.97)


def weibull(chance: np.random.Generator, amounts: Floats) -> Floats:
    level, limit = level_and_limit(chance)
    shape, rate = chance.uniform(0.4, 1.2), between(chance, 0.1, 1.5)
    return limit - (limit - level) * np.exp(-rate * (amounts**shape - 1))


def two_exponentials(chance: np.random.Generator, amounts: Floats) -> Floats:
    """Easy classes and hard ones."""
    _, limit = level_and_limit(chance)
    easy, soon, late = chance.uniform(0.3, 0.8), chance.uniform(0.3, 2), chance.uniform(3, 30)
    return limit * (1 - easy * np.exp(-amounts / soon) - (1 - easy) * np.exp(-amounts / late))


def arctangent(chance: np.random.Generator, amounts: Floats) -> Floats:
    level, limit = level_and_limit(chance)
    speed = between(chance, 0.2, 3)
    return limit - (limit - level) * np.arctan2(1, speed * amounts) / np.arctan2(1, speed)


def algebraic_root(chance: np.random.Generator, amounts: Floats) -> Floats:
    level, limit = level_and_limit(chance)
    sharpness, share = between(chance, 0.4, 3), level / limit
    scaled = amounts * share / (1 - share**sharpness) ** (1 / sharpness)
    return limit * scaled / (1 + scaled**sharpness) ** (1 / sharpness)


def log_sigmoid(chance: np.random.Generator, amounts: Floats) -> Floats:
    _, limit = level_and_limit(chance)
    return limit / (1 + (amounts / chance.uniform(0.7, 6)) ** -chance.uniform(0.6, 2))


def broken_logarithm(chance: np.random.Generator, amounts: Floats) -> Floats:
    level, limit = level_and_limit(chance)
    rate, bend, grown = (limit - level) / chance.uniform(1, 3), chance.uniform(0.2, 1), np.log(amounts)
    knee = bend * grown[-1]
    return np.minimum(level + rate * (np.minimum(grown, knee) + chance.uniform(0.1, 1.3) * np.maximum(grown - knee, 0)), 0.97)


def drifting_power_law(chance: np.random.Generator, amounts: Floats) -> Floats:
    """A power law, and two points of a random walk for each e-fold of labels: what is labelled now is not what was labelled before."""
    steps = np.sqrt(np.diff(np.log(amounts), prepend=0.0))
    return power_law(chance, amounts) + np.cumsum(chance.normal(0, 0.02, len(amounts)) * steps)


def soon_flat(chance: np.random.Generator, amounts: Floats) -> Floats:
    """All that can be learned is learned soon; then a point less to half a point more for each e-fold of labels."""
    level, limit = level_and_limit(chance)
    return limit - (limit - level) * np.exp(-between(chance, 0.5, 4) * (amounts - 1)) + chance.uniform(-0.01, 0.005) * np.log(amounts)


Draw = Callable[[np.random.Generator, Floats], Floats]
CURVES: dict[str, tuple[Draw, ...]] = {
    "tuning": (power_law, logarithm, weibull, two_exponentials, soon_flat),
    "reported": (arctangent, algebraic_root, log_sigmoid, broken_logarithm, drifting_power_law),
}


@dataclass(frozen=True)
class Run:
    """Measurements of a run in the order of its rounds, with standard errors as far as they are known; ``kind`` names the run's group."""

    kind: str
    amounts: Floats
    ap50: Floats
    errors: Floats


@dataclass(frozen=True)
class Case:
    """What was said of a measurement, and the measurement."""

    kind: str
    known: int
    low: float
    middle: float
    high: float
    last: float
    line: float
    measured: float


def drawn_run(chance: np.random.Generator, kind: Draw, rounds: int) -> Run:
    """A run with even rounds, or rounds that grow by a factor; 150 to 3,000 true boxes on the ground it is measured on.

    Trainings differ by a standard deviation of 0.5 to 2.5 points. Half of the binomial variance of AP50 on that ground joins it: the
    rest is the same in all measurements of a run, for they are made on the same objects.
    """
    even = chance.random() < 0.6
    growth = chance.uniform(1.25, 2.2)
    steps = np.full(rounds - 1, chance.uniform(0.4, 1.5)) if even else growth ** np.arange(rounds - 1) * (growth - 1)
    amounts = 1 + np.concatenate([[0.0], np.cumsum(steps * chance.uniform(0.85, 1.15, rounds - 1))])
    ap50 = np.clip(kind(chance, amounts), 0, 1)
    boxes, training = int(between(chance, 150, 3000)), chance.uniform(0.005, 0.025)
    noise = np.hypot(training, np.sqrt(0.5 * ap50 * (1 - ap50) / boxes)) * chance.normal(size=rounds)
    seen = np.clip(ap50 + noise, 0, 1)
    return Run(kind.__name__.replace("_", " "), amounts, seen, sampling_error(seen, np.full(rounds, float(boxes))))


def asked(run: Run, known: int, config: CurveConfig) -> Case:
    """The forecast of the measurement two rounds after the first ``known``."""
    amount, measured = run.amounts[known + AHEAD - 1], float(run.ap50[known + AHEAD - 1])
    amounts, seen = run.amounts[:known], run.ap50[:known]
    said = fit_curves(LearningPoints(amounts, seen, run.errors[:known]), config).measured(np.array([amount]))[:, 0]
    low, middle, high = np.quantile(said, LEVELS).tolist()
    slope = max(0.0, (seen[-1] - seen[-2]) / np.log(amounts[-1] / amounts[-2]))
    line = min(1.0, float(seen[-1] + slope * np.log(amount / amounts[-1])))
    return Case(run.kind, known, low, middle, high, float(seen[-1]), line, measured)


def summary(cases: list[Case]) -> dict[str, float]:
    """Coverage and width of the 80 % interval in percent and points of AP50, and mean absolute errors in points."""
    low, middle, high, last, line, measured = (
        100 * np.array([getattr(case, name) for case in cases]) for name in ("low", "middle", "high", "last", "line", "measured")
    )
    inside = (low <= measured) & (measured <= high)
    spread = 1.96 * 100 * (inside.mean() * (1 - inside.mean()) / len(cases)) ** 0.5
    numbers = {
        "covered": 100 * inside.mean(),
        "covered_plus_minus": spread,
        "below": 100 * (measured < low).mean(),
        "above": 100 * (measured > high).mean(),
        "width": (high - low).mean(),
        "width_median": np.median(high - low),
        "error": np.abs(middle - measured).mean(),
        "error_of_no_change": np.abs(last - measured).mean(),
        "error_of_a_line": np.abs(line - measured).mean(),
    }
    return {"cases": len(cases)} | {name: round(float(value), 2) for name, value in numbers.items()}


def grouped(cases: list[Case]) -> dict[str, object]:
    """The summary of all, by the number of rounds known, and by kind."""
    return {
        "all": summary(cases),
        "at_least_3_known": summary([case for case in cases if case.known >= 3]),
        "by_rounds_known": {
            str(known): summary([case for case in cases if case.known == known]) for known in sorted({case.known for case in cases})
        },
        "by_kind": {kind: summary([case for case in cases if case.kind == kind]) for kind in sorted({case.kind for case in cases})},
    }


def simulated(curves: str, cases: int, seed: int, config: CurveConfig) -> dict[str, object]:
    kinds = CURVES[curves]
    done = []
    for number in range(cases):
        chance = np.random.default_rng([seed, number])
        known = FEWEST + number % (MOST - FEWEST + 1)
        done.append(asked(drawn_run(chance, kinds[int(chance.integers(len(kinds)))], known + AHEAD), known, config))
    return grouped(done)


def recorded_runs(folders: Iterable[Path], axis: str, test_boxes: int | None) -> list[Run]:
    """``test_boxes``: of a measurement that does not say its own."""
    runs = []
    for file in sorted(file for folder in folders for file in folder.glob("*.json")):
        document = json.loads(file.read_text())
        stored = document if isinstance(document, list) else document.get("rounds", [])
        rounds = [{**each, **each.get("measured", {})} for each in stored if each[axis] > 0]
        if not rounds:
            continue
        ap50 = np.array([each["ap50"] for each in rounds], dtype=np.float64)
        boxes = np.array([each.get("test_boxes") or test_boxes or np.inf for each in rounds], dtype=np.float64)
        amounts = np.array([each[axis] for each in rounds], dtype=np.float64)
        runs.append(Run(file.stem.rpartition("-")[0], amounts, ap50, sampling_error(ap50, boxes)))
    return runs


def recorded(folders: list[Path], test_boxes: int | None, config: CurveConfig) -> dict[str, object]:
    said: dict[str, object] = {}
    for axis in ("seconds", "boxes"):
        runs = recorded_runs(folders, axis, test_boxes)
        cases = [asked(run, known, config) for run in runs for known in range(FEWEST, len(run.amounts) - AHEAD + 1)]
        said[axis] = {"runs": len(runs)} | (grouped(cases) if cases else {})
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parts = parser.add_subparsers(dest="part", required=True)
    draws = parts.add_parser("simulated")
    draws.add_argument("--curves", choices=sorted(CURVES), default="reported")
    draws.add_argument("--cases", type=int, default=3000)
    draws.add_argument("--seed", type=int, default=1)
    runs = parts.add_parser("recorded")
    runs.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    runs.add_argument("--test-boxes", type=int, metavar="N", help="true boxes of the ground, for files that do not say")
    chosen = parser.parse_args()
    config = CurveConfig()
    began = time.monotonic()
    drawn = chosen.part == "simulated"
    found = simulated(chosen.curves, chosen.cases, chosen.seed, config) if drawn else recorded(chosen.folders, chosen.test_boxes, config)
    document = {
        "command": " ".join(["python tests/bench/forecast.py OUT.json", *(Path(word).name for word in sys.argv[2:])]),
        "config": config.model_dump(mode="json"),
        **found,
        "took_seconds": round(time.monotonic() - began, 1),
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    write_json(chosen.out, document)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
