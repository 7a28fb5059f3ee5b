"""``rank``: the next round, as the tiles that its budget in seconds pays for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from pydantic import model_validator
from sqlalchemy.orm import Session

from engine.catalog import ledger
from engine.catalog.candidates import RankingPredictions, ranking_candidates, ranking_predictions, waiting_ground, why_cold
from engine.catalog.costs import BatchCost, batch_cost, cost_model, keep_cost
from engine.catalog.counterfactual import keep_fall_back, must_fall_back
from engine.catalog.rounds import ChosenTile, add_round, keep_left_out, keep_why_cold, waiting_tiles
from engine.catalog.schema import RoundRow
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.errors import NothingToDo, UsageError
from engine.progress import Progress, silent
from engine.selection.config import SelectionConfig
from engine.selection.cost_fit import CostFitConfig
from engine.selection.cost_model import CostModel
from engine.selection.cost_spread import tile_quantiles
from engine.selection.money import HOUR, MoneyConfig
from engine.selection.rank import Ranking
from engine.selection.rank import rank as choose

__all__ = ["RankConfig", "RankReport", "RankedWindow", "SpendingConfig", "rank"]


class SpendingConfig(SelectionConfig, MoneyConfig):
    """How tiles are chosen, what they may cost in money, and how their cost is learned."""

    budget_money: float | None = None
    """What the batch may be expected to cost in money, in place of ``budget_seconds``; above 0."""
    fit: CostFitConfig = CostFitConfig()
    """How prices are learned from measured visits; ``prices`` are the priors."""
    waiting_too: bool = False
    """Choose anew among the tiles that wait in open rounds; those chosen belong to the new round then."""
    fall_back: bool = True
    """Draw a round at random where choosing by this strategy could not be told from chance in the last two; the audit slices say so."""

    @model_validator(mode="after")
    def _classes_have_a_say(self) -> Self:
        if self.wanted_classes and self.strategy != "tilehawk":
            raise ValueError(
                f"wanted_classes = {list(self.wanted_classes)} and strategy = {self.strategy!r}, which does not weigh classes; "
                "leave the classes out, or choose by 'tilehawk'"
            )
        return self

    @property
    def seconds(self) -> float:
        """The budget in seconds.

        Raises:
            UsageError: it is given in seconds and in money.
        """
        if self.budget_money is None:
            return self.budget_seconds
        if "budget_seconds" in self.model_fields_set:
            raise UsageError(
                f"budget_seconds = {self.budget_seconds:g} and budget_money = {self.budget_money:g}",
                expected="one of them",
                remedy="Leave one of them out",
            )
        return self.budget_money / self.hourly_rate * HOUR


class RankConfig(SpendingConfig):
    """Which predictions the next round is chosen by; the rest is said by the selection itself."""

    predictions: str | None = None
    """Name of a prediction set that covers all train tiles still to label; none for the newest one that does."""


@dataclass(frozen=True)
class RankedWindow:
    """A chosen tile for people: where it lies in its scene (pixels), and why it was chosen."""

    tile_id: int
    scene: str
    x: int
    y: int
    width: int
    height: int
    score: float
    estimated_seconds: float
    why: str
    reasons: dict[str, Any]


@dataclass(frozen=True)
class RankReport:
    """A round as it was chosen; ``predictions`` is None where no model had seen the tiles yet.

    ``estimated_seconds`` are those expected on average; ``cost`` says what else is known of them; ``fell_back``: why the tiles were drawn
    at random though another strategy was asked for, None where they were not; ``left_out``: tiles that waited in open rounds or show mostly
    their ground; ``why_cold``: why the newest detector had no say, None where it had.
    """

    round: int
    strategy: str
    budget_seconds: float
    estimated_seconds: float
    predictions: str | None
    cost: BatchCost
    fell_back: str | None
    tiles: tuple[RankedWindow, ...]
    left_out: int = 0
    why_cold: str | None = None


def rank(workspace: Workspace, config: RankConfig, *, progress: Progress = silent) -> RankReport:
    """Choose the tiles of the next round and write it, tiles and reasons together or not at all.

    The choice is made from predictions, embeddings and accepted labels alone; withheld labels are never read. Tiles that wait in open
    rounds count as chosen (:func:`engine.catalog.rounds.waiting_tiles` says which are open), and those that show mostly their ground are
    left out.

    Raises:
        UsageError: a budget in seconds and one in money.
        BadInput: a budget of 0 or below, unknown predictions, or predictions that lack tiles.
        NothingToDo: no tile is left, all that are left wait in open rounds, or the budget does not pay for the cheapest.
    """
    budget = config.seconds
    with workspace.worker_lock("rank"):
        with workspace.session(write=False) as session:
            train, reviewed = tiles(session, split="train"), {tile.id for tile in tiles(session, split="train", reviewed=True)}
            waiting = {} if config.waiting_too else waiting_tiles(session)
            left_out = waiting_ground([tile for tile in train if tile.id not in reviewed], waiting, config.overlap_share)
            _require_any(len(train) - len(reviewed), waiting, left_out)
            waits = {tile_id for mine in waiting.values() for tile_id in mine}
            train = [tile for tile in train if tile.id not in left_out or tile.id in waits]
            open_ids = [tile.id for tile in train if tile.id not in reviewed | waits]
            seen = ranking_predictions(workspace, session, open_ids, config.predictions)
            cold = _cold(why_cold(workspace, session, open_ids, seen), seen, config)
            candidates = ranking_candidates(session, train, reviewed, seen, waits)
            fell_back = must_fall_back(session, config.strategy, config.prices, config.fit) if config.fall_back else None
            model = cost_model(session, config.prices, config.fit, detector=seen is not None and seen.detector)
        for said in (cold, fell_back, _said_of(waiting, left_out)):
            if said:
                progress(0, 0, said)
        strategy = "random" if fell_back else config.strategy
        priced = config.model_copy(update={"prices": model.prices, "budget_seconds": budget, "strategy": strategy})
        ranking = _with_quantiles(choose(candidates, priced, progress=progress), model)
        if (
            ranking.strategy == "tilehawk"
            and seen is not None
            and seen.detector
            and not any(tile.reasons["audit"] for tile in ranking.tiles)
        ):
            progress(0, 0, "no tile was drawn at random, so this round will not say whether choosing beats chance")
        expected = [tile.estimated_seconds for tile in ranking.tiles]
        cost = batch_cost(expected, model, hourly_rate=config.hourly_rate, currency=config.currency)
        with workspace.session() as session:
            row = _write(session, ranking, config, seen, budget)
            keep_cost(row, cost)
            keep_left_out(row, len(left_out))
            if fell_back:
                keep_fall_back(row, fell_back)
            if cold:
                keep_why_cold(row, cold)
            number = row.number
    return replace(_report(number, ranking, seen, train, budget, cost, fell_back), left_out=len(left_out), why_cold=cold)


def _cold(why: str | None, seen: RankingPredictions | None, config: RankConfig) -> str | None:
    """Why the newest detector has no say, and how the tiles are chosen without any; None where another was asked for by name."""
    detector = seen is not None and seen.detector
    if why is None or (detector and config.predictions):
        return None
    if detector or config.strategy != "tilehawk":
        return why
    how = "drawn at random" if seen is None else "chosen by their embeddings alone"
    classes = f", and the wanted classes ({', '.join(config.wanted_classes)}) have no say" if config.wanted_classes else ""
    return f"{why}: they are {how}{classes}"


def _require_any(open_tiles: int, waiting: dict[int, list[int]], left_out: set[int]) -> None:
    if left_out and len(left_out) == open_tiles:
        raise NothingToDo(
            f"no tile is left to choose: {_said_of(waiting, left_out)}",
            expected="a tile that nobody has looked at and that waits in no open round",
            remedy="Annotate those on the page Review, or choose among them anew with --set waiting_too=true",
        )


def _said_of(waiting: dict[int, list[int]], left_out: set[int]) -> str | None:
    """Which open rounds tiles wait in, and how many more show their ground."""
    if not left_out:
        return None
    said = ", ".join(f"{len(mine)} wait in round {number}" for number, mine in waiting.items())
    more = len(left_out) - sum(len(mine) for mine in waiting.values())
    return f"{len(left_out)} tiles are left out: {said}" + (f", {more} show mostly the same ground" if more else "")


def _with_quantiles(ranking: Ranking, model: CostModel) -> Ranking:
    """P50 and P90 of each tile beside the reasons for it."""
    quantiles = tile_quantiles(np.asarray([tile.estimated_seconds for tile in ranking.tiles]), model.spread)
    tiles_known = [
        replace(tile, reasons={**tile.reasons, "seconds": {"p50": round(p50, 1), "p90": round(p90, 1)}})
        for tile, p50, p90 in zip(ranking.tiles, *(each.tolist() for each in quantiles), strict=True)
    ]
    return replace(ranking, tiles=tuple(tiles_known))


def _write(session: Session, ranking: Ranking, config: RankConfig, seen: RankingPredictions | None, budget: float) -> RoundRow:
    row = add_round(
        session,
        budget_seconds=budget,
        strategy=ranking.strategy,
        seed=config.seed,
        chosen=[ChosenTile(tile.tile_id, tile.score, tile.estimated_seconds, {**tile.reasons, "why": tile.why}) for tile in ranking.tiles],
        prediction_set_id=None if seen is None else seen.row.id,
    )
    ledger.record(
        session,
        "rank",
        round=row.number,
        tiles=len(ranking.tiles),
        estimated_seconds=ranking.estimated_seconds,
        predictions=None if seen is None else seen.row.name,
        config=config.model_dump(mode="json"),
    )
    return row


def _report(
    number: int,
    ranking: Ranking,
    seen: RankingPredictions | None,
    train: Sequence[TileRecord],
    budget: float,
    cost: BatchCost,
    fell_back: str | None,
) -> RankReport:
    record_of = {tile.id: tile for tile in train}
    return RankReport(
        round=number,
        strategy=ranking.strategy,
        budget_seconds=budget,
        estimated_seconds=ranking.estimated_seconds,
        predictions=None if seen is None else seen.row.name,
        cost=cost,
        fell_back=fell_back,
        tiles=tuple(
            RankedWindow(
                tile_id=tile.tile_id,
                scene=record_of[tile.tile_id].scene_name,
                x=record_of[tile.tile_id].window.x,
                y=record_of[tile.tile_id].window.y,
                width=record_of[tile.tile_id].window.width,
                height=record_of[tile.tile_id].window.height,
                score=tile.score,
                estimated_seconds=tile.estimated_seconds,
                why=tile.why,
                reasons=tile.reasons,
            )
            for tile in ranking.tiles
        ),
    )
