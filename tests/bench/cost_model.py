"""How well the cost model foretells what a batch of tiles will take, with annotators whose prices are far from the priors.

    python tests/bench/cost_model.py OUT.json [--tiles cost_tiles.json] [--seeds 20]

Annotators have prices of their own, learn, have better and worse days, and now and then leave a tile open. Tiles and detectors are of two
kinds: simulated ones, whose scores are no calibrated probabilities and which get better from round to round; and, with --tiles, what four
detectors that learned from a tenth of NWPU VHR-10 foresaw on its other images, and what had to be done there (cost_tiles.py). Every way of
foretelling sees the foreseen boxes alone, never what will have to be done. The first round has no detector: all its boxes are drawn.

The error of a batch is |foretold P50 − seconds worked| / seconds worked. Seconds in which a tile was left open are in the measured times
that everything is fitted to, and in the column "clock"; they are not in the seconds worked. One core, about a minute.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.files import write_json
from engine.selection.cost import CostConfig, Prices, TileCosts, estimate_costs, prior_costs, with_more_missed
from engine.selection.cost_fit import CostFitConfig, FittedPrices, Visits
from engine.selection.cost_model import CostModel, ForeseenTiles, learn_costs
from engine.selection.cost_spread import UNMEASURED, batch_quantiles, tile_quantiles

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PRIORS, COST, FIT = Prices(), CostConfig(), CostFitConfig()
ANNOTATORS = {
    "as the priors": PRIORS,
    "slow at drawing": Prices(open=8, verify=1, edit=10, draw=35, delete=3),
    "quick": Prices(open=2, verify=0.6, edit=2.5, draw=5, delete=0.8),
    "careful at checking": Prices(open=20, verify=6, edit=8, draw=10, delete=4),
    "slow in crowds": Prices(open=4, verify=2, edit=6, draw=9, delete=1.5, density=0.05),
}
TILE_NOISE, DAY_NOISE = 0.4, 0.12
"""Standard deviations of the logarithm of the seconds of a tile, and of all tiles of a round."""
IDLE_SHARE, IDLE_SECONDS = 0.05, (120.0, 900.0)
LEARNING, LEARNED_AFTER = (0.0, 0.5), (30.0, 150.0)
"""A beginner takes up to half as long again; the excess falls by e in so many tiles. Each annotator has their own."""
SKILL = ((0.4, 0.7), (0.75, 0.9))
"""Shares of the objects that a simulated detector proposes, in the first round that has one and in the end."""
SHIFTS = {"simulated, scores too low": -1.0, "simulated, scores too high": 1.0}
POOL, BATCH, ROUNDS = 300, (20, 61), 8
ACTS = ("verified", "edited", "drawn", "deleted")


@dataclass(frozen=True, eq=False)
class Batch:
    """A round's tiles: the boxes foreseen, those verified, edited, drawn and deleted, and whether a detector had a say."""

    foreseen: TileCosts
    acts: dict[str, NDArray[Any]]
    detector: bool


@dataclass(frozen=True, eq=False)
class Round:
    """A batch that was annotated: the seconds worked, and those by the clock."""

    batch: Batch
    worked: Floats
    clock: Floats


class Annotator:
    """Somebody with prices, who learns and has better and worse days."""

    def __init__(self, prices: Prices, generator: np.random.Generator) -> None:
        self._prices, self._generator, self._done = prices, generator, 0
        self._learning, self._after = generator.uniform(*LEARNING), generator.uniform(*LEARNED_AFTER)

    def work(self, batch: Batch) -> Round:
        """What the batch takes."""
        g, tiles = self._generator, len(batch.foreseen.sure)
        pace = (1 + self._learning * math.exp(-self._done / self._after)) * g.lognormal(-(DAY_NOISE**2) / 2, DAY_NOISE)
        worked = self._prices.seconds(*(batch.acts[name] for name in ACTS)) * pace * g.lognormal(-(TILE_NOISE**2) / 2, TILE_NOISE, tiles)
        self._done += tiles
        return Round(batch, worked, worked + (g.random(tiles) < IDLE_SHARE) * g.uniform(*IDLE_SECONDS, tiles))


def drawn_by_hand(objects: NDArray[Any]) -> Batch:
    """A batch without a detector."""
    nothing = np.zeros(len(objects))
    return Batch(prior_costs(len(objects), PRIORS, COST), {**dict.fromkeys(ACTS, nothing), "drawn": objects}, detector=False)


def chosen(doubt: Floats, generator: np.random.Generator) -> Integers:
    """Half of a batch is where the detector doubts most, half is drawn at random."""
    size = int(generator.integers(*BATCH))
    most = np.argsort(-doubt, kind="stable")[: size // 2]
    rest = generator.permutation(np.setdiff1d(np.arange(len(doubt)), most))[: size - len(most)]
    return np.concatenate([most, rest])


def simulated(shift: float, g: np.random.Generator) -> Iterator[Batch]:
    """Batches of a simulated archive: a detector proposes objects and other things, scores them, and hits some of the boxes exactly."""
    mean_objects = g.uniform(2.0, 9.0)
    start, end = (g.uniform(*each) for each in SKILL)

    def detect(objects: Integers, number: int) -> tuple[Integers, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Tile, score, whether it is an object, and whether its box is tight, of every proposal of the detector of that round."""
        skill = end + (start - end) * math.exp(-(number - 1) / 3)
        right = np.repeat(np.arange(len(objects)), g.binomial(objects, skill))
        wrong = np.repeat(np.arange(len(objects)), g.poisson(3.0 - 2.0 * skill, len(objects)))
        true = np.concatenate([np.ones(len(right), bool), np.zeros(len(wrong), bool)])
        logit = np.concatenate([g.normal(0.5 + skill, 1.2, len(right)), g.normal(-1.2, 1.0, len(wrong))]) + shift
        return np.concatenate([right, wrong]), 1 / (1 + np.exp(-logit)), true, g.random(len(true)) < skill - 0.15

    labelled: list[Integers] = []
    for number in range(ROUNDS):
        objects = g.negative_binomial(1.0, 1 / (1 + mean_objects), POOL)
        if not number:
            labelled.append(objects[: int(g.integers(*BATCH))])
            yield drawn_by_hand(labelled[0])
            continue
        tile, scores, true, tight = detect(objects, number)
        rows = chosen(np.bincount(tile, weights=scores * (1 - scores), minlength=POOL), g)
        known = np.concatenate(labelled)
        familiar, sure_of_them, _, _ = detect(known, number + 3)
        shortfall = float((known - estimate_costs(familiar, sure_of_them, len(known), PRIORS, COST).objects).mean())
        foreseen = with_more_missed(estimate_costs(tile, scores, POOL, PRIORS, COST).take(rows), max(shortfall, 0.0), PRIORS)
        shown = scores >= COST.shown_score
        masks = {"verified": shown & true & tight, "edited": shown & true & ~tight, "deleted": shown & ~true}
        acts = {name: np.bincount(tile[mask], minlength=POOL)[rows] for name, mask in masks.items()}
        labelled.append(objects[rows])
        yield Batch(foreseen, {**acts, "drawn": objects[rows] - acts["verified"] - acts["edited"]}, detector=True)


def real(document: dict[str, Any], g: np.random.Generator) -> Iterator[Batch]:
    """Batches of NWPU VHR-10, no tile twice: one without a detector, then one of each detector of the file."""
    done: set[int] = set()
    for number, detector in enumerate([document["detectors"][0], *document["detectors"]]):
        counts = {name: np.asarray(column) for name, column in detector["counts"].items()}
        fresh = np.flatnonzero(~np.isin(detector["tiles"], list(done)))
        rows = fresh[chosen(counts["medium"][fresh] if number else g.random(len(fresh)), g)]
        done |= {detector["tiles"][row] for row in rows}
        acts = {name: counts[name][rows] for name in ACTS}
        if not number:
            yield drawn_by_hand(acts["verified"] + acts["edited"] + acts["drawn"])
            continue
        foreseen = [counts[name][rows] for name in ("sure", "medium", "missed")]
        yield Batch(TileCosts(PRIORS.seconds(*foreseen, 0.0), *foreseen), acts, detector=True)


def visits_of(history: list[Round]) -> Visits:
    acts = [np.concatenate([each.batch.acts[name] for each in history]) for name in ACTS]
    return Visits(np.concatenate([each.clock for each in history]), *acts)


def foreseen_in(history: list[Round]) -> ForeseenTiles:
    """The tiles that a detector had foreseen."""
    numbers = np.concatenate([np.full(len(each.clock), number) for number, each in enumerate(history)])
    rows = np.flatnonzero(np.concatenate([np.full(len(each.clock), each.batch.detector) for each in history]))
    parts = [np.concatenate([getattr(each.batch.foreseen, name) for each in history])[rows] for name in ("sure", "medium", "missed")]
    return ForeseenTiles(*parts, numbers[rows], rows)


def least_squares(history: list[Round]) -> Prices:
    """Plain least squares on the seconds and the acts as they are; an act that comes out as nothing or less costs next to nothing."""
    visits = visits_of(history)
    solved = np.linalg.lstsq(np.column_stack([np.ones(len(visits.seconds)), visits.acts]), visits.seconds, rcond=None)[0]
    return Prices(**dict(zip(("open", "verify", "edit", "draw", "delete"), np.maximum(solved, 1e-6).tolist(), strict=True)))


def at_prices(prices: Prices) -> CostModel:
    return CostModel(FittedPrices(prices, 0, 0, 0), UNMEASURED)


def learned(prior_visits: float = FIT.prior_visits) -> Callable[[list[Round]], CostModel]:
    config = FIT.model_copy(update={"prior_visits": prior_visits})
    return lambda history: learn_costs(visits_of(history), foreseen_in(history), PRIORS, config)


WAYS: dict[str, Callable[[list[Round]], CostModel]] = {
    "priors": lambda _: at_prices(PRIORS),
    "least squares": lambda history: at_prices(least_squares(history)),
    "fitted prices without the factor": lambda history: at_prices(learned()(history).fitted.prices),
    "cost model": learned(),
    "cost model, priors weigh 0.5 visits": learned(0.5),
    "cost model, priors weigh 10 visits": learned(10.0),
}


def errors(history: list[Round], future: Round) -> dict[str, dict[str, float]]:
    """By way of foretelling: errors of the batch and of the median tile, what lies below P50 and P90 (batches 0 or 1, tiles a share)."""
    found = {}
    worked, clock = math.fsum(future.worked), math.fsum(future.clock)
    for name, way in WAYS.items():
        model, foreseen = way(history), future.batch.foreseen
        expected = model.prices.seconds(foreseen.sure, foreseen.medium, foreseen.missed, 0.0)
        batch = batch_quantiles(expected, model.spread)
        p50, p90 = tile_quantiles(expected, model.spread)
        found[name] = {
            "batch": abs(batch.p50 - worked) / worked,
            "signed": (batch.p50 - worked) / worked,
            "clock": abs(batch.p50 - clock) / clock,
            "tile": float(np.median(np.abs(p50 - future.worked) / future.worked)),
            "batches_below_p50": float(worked <= batch.p50),
            "batches_below_p90": float(worked <= batch.p90),
            "tiles_below_p50": float((future.worked <= p50).mean()),
            "tiles_below_p90": float((future.worked <= p90).mean()),
        }
    return found


def summary(cases: dict[tuple[str, ...], list[dict[str, float]]], *parts: int) -> dict[str, dict[str, float]]:
    """Over the cases that agree in these parts of their keys: how many, medians of errors, their ninth decile, means of shares."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for key, found in cases.items():
        groups["; ".join(key[part] for part in parts)] += found
    rows = {}
    for name, found in groups.items():
        row: dict[str, float] = {"batches": len(found)}
        for measure in ("batch", "clock", "tile", "signed"):
            row[f"median_{measure}"] = round(statistics.median(each[measure] for each in found), 4)
        row["ninth_decile_batch"] = round(float(np.quantile([each["batch"] for each in found], 0.9)), 4)
        for share in ("batches_below_p50", "batches_below_p90", "tiles_below_p50", "tiles_below_p90"):
            row[share] = round(statistics.mean(each[share] for each in found), 4)
        rows[name] = row
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    began = time.monotonic()
    sources: dict[str, Callable[[np.random.Generator], Iterator[Batch]]] = {
        name: (lambda generator, shift=shift: simulated(shift, generator)) for name, shift in SHIFTS.items()
    }
    if options.tiles:
        document = json.loads(options.tiles.read_text())
        sources["NWPU VHR-10"] = lambda generator: real(document, generator)
    cases: dict[tuple[str, ...], list[dict[str, float]]] = defaultdict(list)
    for place, (source, batches) in enumerate(sources.items()):
        for who, (annotator, prices) in enumerate(ANNOTATORS.items()):
            for seed in range(options.seeds):
                generator = np.random.default_rng([seed, place, who])
                person, history = Annotator(prices, generator), list[Round]()
                for batch in batches(generator):
                    future = person.work(batch)
                    if history:
                        for way, found in errors(history, future).items():
                            cases[way, source, annotator, f"{len(history)} rounds known"].append(found)
                    history.append(future)
    document = {
        "seeds": options.seeds,
        "annotators": {name: prices.model_dump() for name, prices in ANNOTATORS.items()},
        "fit": FIT.model_dump(),
        "by_way": summary(cases, 0),
        "by_way_and_tiles": summary(cases, 0, 1),
        "by_way_tiles_and_rounds": summary(cases, 0, 1, 3),
        "by_way_tiles_and_annotator": summary(cases, 0, 1, 2),
        "seconds": round(time.monotonic() - began, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    write_json(options.out, document)
    for name, row in document["by_way_and_tiles"].items():
        print(f"{name:70}", *row.values())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
